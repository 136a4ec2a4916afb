"""Whether a latent space encodes what it should not: from where a molecule was seen, its place, its defocus."""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoloom.data.particles import Particles
from cryoloom.evaluate.embedding import random_rows

PARTICLES = 20_000
# Parts of the latents' variance; above, a reader should doubt that it is conformation.
TOLERATED = {"viewing direction": 0.15, "in-plane angle": 0.15, "defocus": 0.15, "shift": 0.15}
_ADVICE = {
    "viewing direction": "Poses or the mask may be off, or the latent fits what one view shows better than another: "
    "check the poses, raise --beta, or give fewer dimensions.",
    "in-plane angle": "Conformation cannot depend on it: check the poses' psi and shifts, and that the mask is round.",
    "defocus": "The CTF or the contrast may be off: check defocus, amplitude contrast and normalisation.",
    "shift": "Particles may be off centre: refine the poses first.",
}


class Confound(NamedTuple):
    """explained: part of the variance of each component (C,) that one quantity explains; whole: of all together."""

    name: str
    explained: NDArray
    whole: float


def confounds(scores: NDArray, particles: Particles, seed: int) -> list[Confound]:
    """How much of the principal components' scores (N, C) pose, defocus and shift explain, by linear regression.

    Adjusted R² on polynomials of the viewing direction up to degree 3, two harmonics of the in-plane angle, and second
    degree in defocus and shift. `whole` weights the components by their variance.
    """
    rows = random_rows(len(scores), PARTICLES, seed)
    scores, found = scores[rows], []
    variance = scores.var(0)
    for name, (features, free) in _features(particles.subset(rows)).items():
        explained = _adjusted_r2(features, scores, free)
        found.append(Confound(name, explained, float(explained @ variance / max(variance.sum(), 1e-30))))
    return found


def _features(particles: Particles) -> dict[str, tuple[NDArray, int]]:
    """Regressors (n, F) by name, and how many of them are free."""
    found = {}
    if particles.rotation is not None:
        rotation = np.asarray(particles.rotation, dtype=np.float64)
        view = rotation[:, 2]
        powers = [p for p in product(range(4), repeat=3) if 1 <= sum(p) <= 3]
        # On the sphere they span the harmonics of degree 1 to 3.
        found["viewing direction"] = np.stack([(view**p).prod(1) for p in powers], 1), 15
        psi = np.arctan2(rotation[:, 1, 2], -rotation[:, 0, 2])
        turns = [f(m * psi) for m in (1, 2) for f in (np.cos, np.sin)]
        found["in-plane angle"] = np.stack(turns, 1), 4
        x, y = (particles.column(f"shift_{axis}").astype(np.float64) for axis in "xy")
        found["shift"] = np.stack([x, y, x * x, x * y, y * y], 1), 5
    if particles.has_ctf:
        defocus = (particles.column("defocus_u") + particles.column("defocus_v")).astype(np.float64) / 2
        defocus = (defocus - defocus.mean()) / max(defocus.std(), 1e-9)
        found["defocus"] = np.stack([defocus, defocus**2], 1), 2
    return {name: value for name, value in found.items() if value[0].std(0).max() > 1e-6}


def _adjusted_r2(features: NDArray, values: NDArray, free: int) -> NDArray:
    n = len(values)
    if n <= free + 1:
        return np.zeros(values.shape[1])
    design = np.concatenate([np.ones((n, 1)), features], 1)
    left = values - design @ np.linalg.lstsq(design, values, rcond=1e-8)[0]
    ratio = left.var(0) / values.var(0).clip(min=1e-30)
    return (1 - ratio * (n - 1) / (n - free - 1)).clip(0, 1)


def warnings_of(found: list[Confound]) -> list[dict[str, str]]:
    """What is to be said of quantities that explain more than is tolerated, as alarms of a run."""
    return [
        {
            "name": f"latent follows {confound.name}",
            "severity": "warning",
            "message": f"The {confound.name} explains {confound.whole:.0%} of the conformations' variance.",
            "advice": _ADVICE[confound.name],
        }
        for confound in found
        if confound.whole > TOLERATED[confound.name]
    ]
