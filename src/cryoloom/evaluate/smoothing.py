"""The linear baseline of a DVAE: per-frame latents smoothed over their movie as a Kalman smoother would."""

import math

import torch
from torch import Tensor

_MEMORIES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def smoothed(mean: Tensor, movie: Tensor, frame: Tensor) -> Tensor:
    """Latent means (N, Z) of frames (N,) of movies (N,), each dimension smoothed along its movie.

    x_t = a^g x_{t−g} + noise of variance s² (1 − a^2g), y_t = x_t + noise of variance r: the posterior mean of x given
    all y of the movie is what the Rauch–Tung–Striebel smoother gives. (a, r / s²) are those of greatest likelihood on
    a grid, s² + r the variance of y.
    """
    out = mean.clone()
    rows = [torch.nonzero(movie == number)[:, 0] for number in movie.unique()]
    for dimension in range(mean.shape[1]):
        y = (mean[:, dimension] - mean[:, dimension].mean()).double()
        a, share = _likeliest(y, rows, frame)
        for index in rows:
            signal, total = _covariances(frame[index], a, share)
            out[index, dimension] = (signal @ torch.linalg.solve(total, y[index])).float() + mean[:, dimension].mean()
    return out


def _likeliest(y: Tensor, rows: list[Tensor], frame: Tensor) -> tuple[float, float]:
    """Memory a and share of the signal in the variance, by the likelihood of all movies."""
    variance = float(y.var())
    best, found = -math.inf, (0.0, 0.5)
    for a in _MEMORIES:
        for share in _SHARES:
            total = 0.0
            for index in rows:
                factor = torch.linalg.cholesky(_covariances(frame[index], a, share)[1] * variance)
                whitened = torch.linalg.solve_triangular(factor, y[index][:, None], upper=False)
                total -= 0.5 * float(whitened.square().sum()) + float(factor.diagonal().log().sum())
            if total > best:
                best, found = total, (a, share)
    return found


def _covariances(frame: Tensor, a: float, share: float) -> tuple[Tensor, Tensor]:
    """Of the frames of a movie (T,): covariance (T, T) of x, and of y, in units of y's variance."""
    gap = (frame[:, None] - frame[None]).abs().double()
    signal = share * torch.tensor(a, dtype=torch.float64) ** gap
    return signal, signal + (1 - share) * torch.eye(len(frame), dtype=torch.float64)
