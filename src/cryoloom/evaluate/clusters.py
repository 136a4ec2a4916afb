"""Groups of particles in latent space, k-means and a mixture of Gaussians, and how densely particles lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.linalg import solve_triangular
from scipy.spatial import KDTree
from scipy.special import logsumexp

from cryoloom.evaluate.embedding import random_rows

STARTS = 5
NEIGHBOURS = 20
# Groups of very many particles are found on some of them; all are then given to the nearest.
FITTED = 20_000
MIXED = 10_000
REFERENCES = 10_000


def k_means(z: NDArray, k: int, seed: int) -> tuple[NDArray, NDArray]:
    """Centres (k, Z) and labels (N,), both in the order of the centres' first principal coordinate.

    The best of a few starts by k-means++ (Arthur & Vassilvitskii 2007); centres that end empty are dropped.
    """
    rng, sample = np.random.default_rng(seed), z[random_rows(len(z), FITTED, seed)]
    k = min(k, len(np.unique(sample, axis=0)))
    best, least = sample[:k], np.inf
    for _ in range(STARTS):
        centres, labels = kmeans2(sample, k, iter=50, minit="++", rng=rng)
        squares = float(np.square(sample - centres[labels]).sum())
        filled = np.unique(labels)
        if squares < least:
            best, least = centres[filled], squares
    spread = best - best.mean(0)
    first = np.linalg.svd(spread, full_matrices=False)[2][0]
    best = best[np.argsort(spread @ (first * np.sign(first[np.abs(first).argmax()])), kind="stable")]
    return best, nearest_rows(best, z)


def nearest_rows(points: NDArray, z: NDArray) -> NDArray:
    """Row (N,) of the nearest of points (K, Z) to each z (N, Z)."""
    return np.asarray(KDTree(points).query(z, workers=-1)[1], dtype=np.int64)


def representatives(z: NDArray, centres: NDArray) -> NDArray:
    """The row (K,) of the particle nearest to each centre (K, Z): a centre itself may lie where no particle does."""
    return nearest_rows(z, centres)


def log_density(z: NDArray, seed: int) -> NDArray:
    """Log density (N,) of particles at each z (N, Z), up to a constant: −Z log r, r the distance to the k-th neighbour.

    Coordinates are divided by their spread first. Neighbours are looked for among some thousand random particles.
    """
    scaled = z / z.std(0).clip(min=1e-12)
    reference = scaled[random_rows(len(z), REFERENCES, seed)]
    # A particle among the references is its own first neighbour.
    k = min(NEIGHBOURS + 1, len(reference))
    distance = np.asarray(KDTree(reference).query(scaled, k=k, workers=-1)[0]).reshape(len(z), k)[:, -1]
    return -z.shape[1] * np.log(distance.clip(min=1e-12))


@dataclass(frozen=True)
class Mixture:
    """K Gaussians. weights: (K,); means: (K, Z); factors: (K, Z, Z) lower Cholesky factors of the covariances."""

    weights: NDArray
    means: NDArray
    factors: NDArray

    def log_parts(self, z: NDArray) -> NDArray:
        """log w_k N(z | μ_k, Σ_k) of z (N, Z): (N, K)."""
        parts = []
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            white = solve_triangular(factor, (z - mean).T, lower=True)
            constant = np.log(weight) - np.log(np.diag(factor)).sum() - 0.5 * z.shape[1] * np.log(2 * np.pi)
            parts.append(constant - 0.5 * np.square(white).sum(0))
        return np.stack(parts, 1)

    def labels(self, z: NDArray) -> NDArray:
        """The likeliest Gaussian (N,) of each z (N, Z)."""
        return self.log_parts(z).argmax(1)

    def bic(self, z: NDArray) -> float:
        """Bayesian information criterion of z (N, Z): smaller is better (Schwarz 1978)."""
        k, d = self.means.shape
        free = k - 1 + k * d + k * d * (d + 1) // 2
        return free * np.log(len(z)) - 2 * float(logsumexp(self.log_parts(z), axis=1).sum())


def fit_mixture(z: NDArray, k: int, seed: int, steps: int = 100) -> Mixture:
    """K Gaussians of full covariance on z (N, Z) by expectation-maximisation, from k-means (Dempster et al. 1977)."""
    labels = k_means(z, k, seed)[1]
    parts = np.eye(labels.max() + 1)[labels]
    floor = 1e-6 * np.diag(z.var(0) + 1e-12)
    mixture, before = _mixture_of(z, parts, floor), -np.inf
    for _ in range(steps):
        logs = mixture.log_parts(z)
        total = np.asarray(logsumexp(logs, axis=1))
        now = float(total.mean())
        if now - before < 1e-5:
            break
        mixture, before = _mixture_of(z, np.exp(logs - total[:, None]), floor), now
    return mixture


def _mixture_of(z: NDArray, parts: NDArray, floor: NDArray) -> Mixture:
    """The Gaussians of z (N, Z) shared out by `parts` (N, K); those with no particle left are dropped."""
    parts = parts[:, parts.sum(0) > z.shape[1] + 1]
    counts = parts.sum(0)
    means = (parts.T @ z) / counts[:, None]
    factors = []
    for part, mean, count in zip(parts.T, means, counts, strict=True):
        away = z - mean
        factors.append(np.linalg.cholesky((part[:, None] * away).T @ away / count + floor))
    return Mixture(counts / counts.sum(), means, np.stack(factors))


def best_mixture(z: NDArray, most: int, seed: int) -> Mixture:
    """The mixture of up to `most` Gaussians with the smallest BIC on z (N, Z)."""
    sample = z[random_rows(len(z), MIXED, seed)]
    found = [fit_mixture(sample, k, seed) for k in range(1, most + 1)]
    return min(found, key=lambda mixture: mixture.bic(sample))
