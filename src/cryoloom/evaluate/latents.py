"""How well latents (N, Z) tell a true coordinate (N,): correlation, neighbours, information; and junk scores."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.stats import hypergeom, rankdata

Array = NDArray[np.floating]

# Ranks of all pairs are taken of no more particles than this.
PAIRED = 2000


def first_component(z: Array) -> Array:
    """Coordinate (N,) along the direction in which latents (N, Z) vary most."""
    return (z - z.mean(0)) @ first_axis(z)


def first_axis(z: Array) -> Array:
    """The direction (Z,) in which latents (N, Z) vary most."""
    return np.linalg.svd(z - z.mean(0), full_matrices=False)[2][0]


def conformation_correlation(z: Array, truth: Array) -> float:
    """|Spearman| correlation of the first principal component of latents (N, Z) with a truth (N,); 0 if constant."""
    along = first_component(z)
    if np.ptp(along) == 0 or np.ptp(truth) == 0:
        return 0.0
    return abs(float(np.corrcoef(rankdata(along), rankdata(truth))[0, 1]))


def neighbour_accuracy(z: Array, truth: Array, share: float = 0.01, least: int = 10) -> float:
    """Share of each particle's k nearest latents that are, in truth, no farther than its k-th nearest true neighbour.

    k is `share` of the particles, `least` at least. Of discrete states with more than k particles each, it is the share
    of neighbours in the same state. CryoBench (Jeon et al. 2024) counts the same neighbours, without ties.
    """
    k = min(max(round(share * len(z)), least), len(z) - 1)
    near = _others(np.asarray(KDTree(z).query(z, k + 1)[1]))
    ordered = np.sort(truth)
    radius = _kth_distance(ordered, truth, k)
    return float((np.abs(truth[near] - truth[:, None]) <= radius[:, None] + 1e-9).mean())


def _others(found: NDArray) -> NDArray:
    """Neighbours (N, k) of (N, k + 1) found ones without the particle itself, which equal ones may have pushed out."""
    n, k = found.shape[0], found.shape[1] - 1
    itself = found == np.arange(n)[:, None]
    itself[~itself.any(1), -1] = True
    return found[~itself].reshape(n, k)


def _kth_distance(ordered: Array, values: Array, k: int) -> Array:
    """Distance (N,) of each value from its k-th nearest other one among `ordered` (N,)."""
    distance, _ = KDTree(ordered[:, None]).query(values[:, None], k + 1)
    return distance[:, -1]


def information_imbalance(a: Array, b: Array) -> float:
    """Δ(A → B) = 2/N ⟨rank in B of the nearest neighbour in A⟩ of points a (N, A) and b (N, B): 0 where A tells B.

    1 where A tells nothing. Ties have their mean rank, and all nearest neighbours count alike. Glielmo et al. 2022.
    """
    a, b = _points(a), _points(b)
    if len(a) > PAIRED:
        chosen = np.linspace(0, len(a) - 1, PAIRED).astype(int)
        a, b = a[chosen], b[chosen]
    n, total = len(a), 0.0
    for i in range(n):
        far, there = np.linalg.norm(a - a[i], axis=1), np.linalg.norm(b - b[i], axis=1)
        far[i] = there[i] = np.inf
        total += rankdata(there)[far <= far.min() + 1e-12].mean()
    return 2 * total / n**2


def _points(values: Array) -> Array:
    values = np.asarray(values, dtype=float)
    return values[:, None] if values.ndim == 1 else values


def fsc_area(fsc: Array) -> float:
    """Area under an FSC (D/2,) over frequencies from 0 to Nyquist in 1/px, trapezoids: 0.5 where all is right.

    Shell 0, the mean of a map, counts as shell 1. CryoBench (Jeon et al. 2024).
    """
    curve = np.asarray(fsc, dtype=float).copy()
    curve[0] = curve[1]
    return float(np.trapezoid(curve, dx=1 / (2 * len(curve))))


def area_under_roc(score: Array, positive: NDArray[np.bool_]) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann and Whitney)."""
    ranks, n = rankdata(score), int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def adjusted_rand_index(labels: NDArray, truth: NDArray) -> float:
    """Agreement of two groupings (N,): pairs that both put together, 0 as by chance, 1 for equal ones.

    Hubert & Arabie, J. Classification 2 (1985).
    """
    table = _together(labels, truth)
    both, rows, columns = (float((n * (n - 1) / 2).sum()) for n in (table, table.sum(1), table.sum(0)))
    chance = rows * columns / (len(labels) * (len(labels) - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)


def adjusted_mutual_information(labels: NDArray, truth: NDArray) -> float:
    """(I − E[I]) / (mean of both entropies − E[I]) of two groupings (N,): 0 as by chance, 1 for equal ones.

    E[I] is that of groups of the same sizes put together at random. Vinh, Epps & Bailey, JMLR 11 (2010).
    """
    table = _together(labels, truth)
    n, rows, columns = len(labels), table.sum(1), table.sum(0)
    shared = np.arange(1, int(min(rows.max(), columns.max())) + 1)[:, None, None]
    chance = hypergeom.pmf(shared, n, rows[:, None], columns)
    expected = float((chance * _information(shared, n, rows, columns)).sum())
    information = float(_information(np.maximum(table, 1), n, rows, columns)[table > 0].sum())
    entropies = [-float((share * np.log(share)).sum()) for share in (rows / n, columns / n)]
    most = sum(entropies) / 2
    return 1.0 if most == expected else (information - expected) / (most - expected)


def _together(labels: NDArray, truth: NDArray) -> Array:
    """How many are in both of each pair of groups, (I, J)."""
    _, i = np.unique(labels, return_inverse=True)
    _, j = np.unique(truth, return_inverse=True)
    table = np.zeros((i.max() + 1, j.max() + 1))
    np.add.at(table, (i, j), 1)
    return table


def _information(shared: NDArray, n: int, rows: Array, columns: Array) -> Array:
    """What pairs of groups with so many shared among n add to the mutual information, nats."""
    return shared / n * np.log(n * shared / (rows[:, None] * columns))
