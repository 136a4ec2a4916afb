"""How conformations move through movies: the latent of every frame, and rates that its changes tell."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from cryoloom.evaluate.latents import first_axis

Array = NDArray[np.floating]

# Fewer pairs of frames than this tell nothing of their lag.
_FEWEST_PAIRS = 20
_FEWEST_LAGS = 4


class Trajectory(NamedTuple):
    """Of the T frames of a movie, in order: frame (T,), latent along its first component (T,) and its width (T,)."""

    frame: NDArray
    mean: Array
    sigma: Array


class Rates(NamedTuple):
    """What the mean squared displacement (G,) about the drift, at lags (G,) in frames, tells.

    drift: mean change a frame. dwell: frames for which a molecule stays on one side of the median, on average.
    noise, variance, relaxation: σ², C and τ of MSD(g) = 2σ² + 2C (1 − exp(−g/τ)), an Ornstein–Uhlenbeck process seen
    with noise; diffusion: C/τ, latent² a frame. NaN where there are too few lags.
    """

    lags: NDArray
    displacement: Array
    drift: float
    dwell: float
    noise: float
    variance: float
    relaxation: float

    @property
    def diffusion(self) -> float:
        """C/τ: how fast the latent diffuses before it is drawn back."""
        return self.variance / self.relaxation


def trajectories(z: Array, log_var: Array, frame: NDArray, movies: dict[str, NDArray]) -> dict[str, Trajectory]:
    """Trajectories of movies, rows by name in the order of frames, in latents (N, Z) with variances exp(log_var)."""
    axis = first_axis(z)
    along, sigma = (z - z.mean(0)) @ axis, np.sqrt(np.exp(log_var) @ axis**2)
    return {name: Trajectory(frame[rows], along[rows], sigma[rows]) for name, rows in movies.items()}


def rates(movies: list[Trajectory]) -> Rates:
    """Drift, dwell time, and the diffusion and relaxation of all movies together."""
    steps = [np.diff(m.mean) / np.diff(m.frame) for m in movies if len(m.mean) > 1]
    drift = float(np.concatenate(steps).mean()) if steps else np.nan
    lags, displacement, pairs = _displacement(movies, drift)
    noise, variance, relaxation = _fitted(lags, displacement, pairs)
    return Rates(lags, displacement, drift, _dwell(movies), noise, variance, relaxation)


def model(lags: Array, noise: float, variance: float, relaxation: float) -> Array:
    """Mean squared displacement of an Ornstein–Uhlenbeck process seen with noise."""
    return 2 * noise + 2 * variance * (1 - np.exp(-lags / relaxation))


def _displacement(movies: list[Trajectory], drift: float) -> tuple[NDArray, Array, NDArray]:
    """Lags, mean squared displacement about the drift at each, and how many pairs of frames it is the mean of."""
    longest = max((int(m.frame[-1] - m.frame[0]) for m in movies), default=0)
    total, pairs = np.zeros(longest + 1), np.zeros(longest + 1)
    for movie in movies:
        first, second = np.triu_indices(len(movie.mean), 1)
        gap = (movie.frame[second] - movie.frame[first]).astype(int)
        np.add.at(total, gap, (movie.mean[second] - movie.mean[first] - drift * gap) ** 2)
        np.add.at(pairs, gap, 1)
    lags = np.flatnonzero(pairs >= _FEWEST_PAIRS)
    return lags, total[lags] / pairs[lags], pairs[lags]


def _fitted(lags: NDArray, displacement: Array, pairs: NDArray) -> tuple[float, float, float]:
    """Noise, variance and relaxation time of the model that fits best; NaN where nothing can be told."""
    top = float(displacement.max(initial=0))
    if len(lags) < _FEWEST_LAGS or top == 0:
        return np.nan, np.nan, np.nan
    start = (max(float(displacement[0]) / 4, 1e-6 * top), top / 2, float(lags[-1]) / 3)
    ends = ([0, 0, 0.1], [top, 10 * top, 100 * float(lags[-1])])
    try:
        # Displacements over the same stretch of a movie are no news: independent ones are as many as pairs over lag.
        sigma = np.maximum(displacement, 1e-6 * top) * np.sqrt(lags / pairs)
        found, _ = curve_fit(model, lags, displacement, start, sigma=sigma, bounds=ends)
    except RuntimeError:
        return np.nan, np.nan, np.nan
    noise, variance, relaxation = found.tolist()
    return noise, variance, relaxation


def _dwell(movies: list[Trajectory]) -> float:
    """Frames in all over the number of crossings of the median: what is cut off at a movie's end is counted so, too."""
    median = np.median(np.concatenate([m.mean for m in movies])) if movies else 0.0
    sides = [np.sign(m.mean - median) for m in movies]
    crossings = sum(int((np.diff(side) != 0).sum()) for side in sides)
    frames = sum(int(m.frame[-1] - m.frame[0]) for m in movies if len(m.frame))
    return frames / crossings if crossings else np.inf
