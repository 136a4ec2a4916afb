"""Places and ways in latent space: as a file lists them, where particles lie, along a component, over the graph."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree

from cryoloom.data.files import existing
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.evaluate.clusters import nearest_rows
from cryoloom.evaluate.embedding import PCA, random_rows

NEIGHBOURS = 10
# The graph of more particles finds the same way, later.
GRAPH_PARTICLES = 20_000
PERCENTILES = (5.0, 95.0)


def read_points(path: Path, z_dim: int) -> NDArray:
    """z (K, Z) of a file with one conformation a line, numbers apart by commas or blanks, a line of names or none.

    Raises InputError for anything else, and for another number of columns than `z_dim`.
    """
    path = existing(path, "file of z, one conformation a line")
    try:
        table = pd.read_csv(path, sep=r"[,;\s]+", engine="python", header=None, comment="#", skipinitialspace=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): expected one conformation a line.") from error
    numbers = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    if len(numbers) and np.isnan(numbers[0]).all():
        numbers = numbers[1:]
    if numbers.shape[1] != z_dim:
        raise InputError(
            f"{path} holds {numbers.shape[1]} numbers a line, but the run's conformations have z-dim {z_dim}: "
            f"give {z_dim} on each line."
        )
    bad = np.flatnonzero(~np.isfinite(numbers).all(1))
    if len(bad) or not len(numbers):
        where = f"row {bad[0] + 1} is no {z_dim} numbers" if len(bad) else "there is no row of numbers"
        raise InputError(f"{path}: {where}; expected one conformation a line, such as {', '.join(['0.5'] * z_dim)}.")
    return numbers


def of_particles(z: NDArray, rows: tuple[int, ...]) -> NDArray:
    """z (K, Z) of the particles at `rows` of z (N, Z). Raises InputError for rows that are not there."""
    wrong = [row for row in rows if not 0 <= row < len(z)]
    if wrong:
        raise InputError(f"there is no particle {wrong[0]}: the run has 0 to {len(z) - 1}, rows of its particles.star.")
    return z[list(rows)]


def of_movie(z: NDArray, particles: Particles, name: str) -> NDArray:
    """z (T, Z) of a movie's frames in their order. Raises InputError for one that is not there, with some that are."""
    movies = particles.movies()
    if name not in movies:
        listed = ", ".join(list(movies)[:5])
        raise InputError(f"{particles.source} has no movie {name}: it has {len(movies)}, such as {listed}.")
    return z[movies[name]]


def along_component(z: NDArray, component: int, steps: int) -> NDArray:
    """z (steps, Z) on the line of a principal component (from 1), from the 5th to the 95th percentile of z (N, Z).

    Raises InputError for a component that is not there.
    """
    pca = PCA.of(z)
    if not 1 <= component <= len(pca.variance):
        raise InputError(f"there is no pc{component}: the latents have pc1 to pc{len(pca.variance)}, give one of them.")
    low, high = np.percentile(pca.scores(z)[:, component - 1], PERCENTILES)
    return pca.mean + np.linspace(low, high, steps)[:, None] * pca.axes[component - 1]


def graph_path(z: NDArray, start: int, end: int, seed: int) -> NDArray:
    """Rows of the particles on the shortest way from row `start` to `end` of z (N, Z) over nearest neighbours.

    An edge costs its squared distance, so that many short steps among particles beat a leap over a gap. Where the graph
    falls into pieces, the shortest gaps between them are bridged.
    """
    rows = np.unique(np.concatenate([random_rows(len(z), GRAPH_PARTICLES, seed), [start, end]]))
    points = z[rows]
    graph = _bridged(points, _neighbour_graph(points))
    first, last = (int(np.searchsorted(rows, row)) for row in (start, end))
    before = np.asarray(dijkstra(graph, directed=False, indices=first, return_predecessors=True)[1])
    path = [last]
    while path[-1] != first:
        path.append(int(before[path[-1]]))
    return rows[path[::-1]]


def _neighbour_graph(points: NDArray) -> csr_matrix:
    k = min(NEIGHBOURS + 1, len(points))
    distance, index = KDTree(points).query(points, k=k, workers=-1)
    distance, index = np.asarray(distance).reshape(len(points), -1), np.asarray(index).reshape(len(points), -1)
    source = np.repeat(np.arange(len(points)), k - 1)
    # A cost of nothing would be no edge.
    cost = np.square(distance[:, 1:]).ravel().clip(min=1e-30)
    return csr_matrix((cost, (source, index[:, 1:].ravel())), shape=(len(points),) * 2)


def _bridged(points: NDArray, graph: csr_matrix) -> csr_matrix:
    """The graph with each further piece joined to the first by the shortest edge that there is."""
    while True:
        pieces, label = connected_components(graph, directed=False)
        if pieces == 1:
            return graph
        label = np.asarray(label)
        inside, outside = np.flatnonzero(label == label[0]), np.flatnonzero(label != label[0])
        distance, index = KDTree(points[inside]).query(points[outside])
        nearest = int(np.argmin(distance))
        a, b = outside[nearest], inside[int(np.asarray(index)[nearest])]
        cost = max(float(np.asarray(distance)[nearest]) ** 2, 1e-30)
        graph = csr_matrix(graph + csr_matrix(([cost], ([a], [b])), shape=graph.shape))


def along_graph(z: NDArray, steps: int, seed: int) -> NDArray:
    """z (steps, Z) of particles on the shortest way between the ends of the first component, evenly spaced."""
    ends = along_component(z, 1, 2)
    start, end = nearest_rows(z, ends)
    path = z[graph_path(z, int(start), int(end), seed)]
    walked = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    at = np.linspace(0, walked[-1], steps)
    return path[np.abs(walked[None] - at[:, None]).argmin(1)]


def along_axis(z: NDArray, axis: str, steps: int, seed: int = 0) -> NDArray:
    """z (steps, Z) along an axis called pc1, pc2 … or graph. Raises InputError for another name."""
    if axis == "graph":
        return along_graph(z, steps, seed)
    if not axis.startswith("pc") or not axis[2:].isdecimal():
        raise InputError(f"there is no axis {axis!r}: give pc1 to pc{z.shape[1]}, or graph.")
    return along_component(z, int(axis[2:]), steps)
