"""The latent space drawn in few dimensions: principal components, and UMAP where it is installed."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoloom.errors import InputError

# UMAP takes minutes for more, and its picture does not change.
UMAP_PARTICLES = 20_000
UMAP_MISSING = "UMAP is left out, it is not installed: pip install 'cryoloom[umap]' adds it."


@dataclass(frozen=True)
class PCA:
    """Principal components of latents (N, Z). mean: (Z,); axes: (C, Z) unit rows, longest first; variance: (C,)."""

    mean: NDArray
    axes: NDArray
    variance: NDArray

    @classmethod
    def of(cls, z: NDArray) -> "PCA":
        """Components of z (N, Z): eigenvectors of its covariance, each with its largest number positive."""
        mean = z.mean(0)
        variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(z - mean, rowvar=False)))
        axes = axes[:, ::-1].T
        largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
        return cls(mean, axes * np.sign(largest), variance[::-1].clip(min=0))

    @property
    def explained(self) -> NDArray:
        """Parts (C,) of the variance."""
        return self.variance / max(float(self.variance.sum()), 1e-30)

    def scores(self, z: NDArray) -> NDArray:
        """Coordinates (N, C) of z (N, Z)."""
        return (z - self.mean) @ self.axes.T

    def z_of(self, scores: NDArray) -> NDArray:
        """z (N, Z) at coordinates (N, c ≤ C) of the first components, the others zero."""
        return self.mean + scores @ self.axes[: scores.shape[1]]


def has_umap() -> bool:
    """Whether UMAP is installed."""
    try:
        import umap  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def umap_of(z: NDArray, seed: int, particles: int = UMAP_PARTICLES) -> NDArray:
    """UMAP (N, 2) of z (N, Z), NaN but for a random `particles` of them. Raises InputError where it is not installed.

    McInnes, Healy & Melville 2018.
    """
    if not has_umap():
        raise InputError("--umap needs umap-learn, which is not installed: pip install 'cryoloom[umap]'.")
    import umap  # pyright: ignore[reportMissingImports]

    chosen = random_rows(len(z), particles, seed)
    found = np.full((len(z), 2), np.nan, dtype=np.float32)
    with warnings.catch_warnings():
        # It warns that a seed makes it use one thread.
        warnings.simplefilter("ignore")
        found[chosen] = umap.UMAP(random_state=seed).fit_transform(z[chosen])
    return found


def random_rows(n: int, most: int, seed: int) -> NDArray:
    """`most` of n rows drawn at random, in order; all of them where there are no more."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
