"""Pictures of maps for the pages: slices, projections and shaded surfaces side by side."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, map_coordinates, zoom
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.data.mrc import read_volume
from cryoloom.errors import InputError
from cryoloom.evaluate.maps import surface_level

# Turns about x, then y, in degrees, from which a surface is seen.
VIEWS = ((0.0, 0.0), (-90.0, 0.0), (0.0, 90.0))
_FINE = 192
_COLOUR = np.array([0.50, 0.71, 0.83])
_MOVING = np.array([0.90, 0.25, 0.10])
_LIGHT = np.array([0.8, 0.5, -0.35])  # towards the light, (z, y, x)


def level_of_volume(volume: NDArray, voxels: int) -> float:
    """The level above which `voxels` voxels of a map (D, D, D) lie: maps of one molecule show equal amounts of it."""
    return float(np.partition(volume, -voxels, axis=None)[-voxels])


def surface_picture(
    volume: NDArray, level: float, turn: tuple[float, float], size: int = _FINE, moving: NDArray | None = None
) -> NDArray:
    """A map (D, D, D) = (z, y, x) seen along −z after a turn, its surface at `level` lit: RGB (size, size, 3), y up.

    Each pixel looks for the first crossing of the level on its line of sight; the gradient there is the normal.
    moving: (D, D, D) from 0 to 1, how far from blue to red the surface is.
    """
    turned = _turned(volume, turn, size)
    inside = turned > level
    hit = np.any(inside, axis=0)
    first = np.argmax(inside[::-1], axis=0)  # from the viewer, who looks from large z
    z = size - 1 - first
    y, x = np.mgrid[:size, :size]
    below, above = turned[z, y, x], turned[np.minimum(z + 1, size - 1), y, x]
    depth = z + np.clip((below - level) / np.maximum(below - above, 1e-12), 0, 1)
    gradient = [map_coordinates(g, [depth, y, x], order=1, mode="nearest") for g in np.gradient(turned)]
    normal = -np.stack(gradient, -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    light, half = (v / np.linalg.norm(v) for v in (_LIGHT, _LIGHT / np.linalg.norm(_LIGHT) + np.array([1.0, 0, 0])))
    diffuse = np.clip(normal @ light, 0, 1)
    shine = np.clip(normal @ half, 0, 1) ** 24
    far = np.ptp(depth[hit]) if hit.any() else 1.0
    fog = 0.72 + 0.28 * (depth - (depth[hit].min() if hit.any() else 0)) / max(far, 1e-6)
    part = np.zeros_like(depth) if moving is None else _turned(moving, turn, size)[z, y, x]
    colour = _COLOUR + np.clip(part, 0, 1)[..., None] * (_MOVING - _COLOUR)
    colour = (0.30 + 0.75 * diffuse)[..., None] * colour * fog[..., None] + 0.18 * shine[..., None]
    return np.where(hit[..., None], np.clip(colour, 0, 1), 1.0)[::-1]


def _turned(volume: NDArray, turn: tuple[float, float], size: int) -> NDArray:
    a, b = np.radians(turn)
    about_x = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])  # in (z, y, x)
    about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    fine = _enlarged(volume, size)
    matrix = (about_x @ about_y).T
    centre = np.full(3, (size - 1) / 2)
    offset: Any = centre - matrix @ centre
    return affine_transform(fine, matrix, offset, order=1, mode="nearest")


def _enlarged(volume: NDArray, size: int) -> NDArray:
    """A map (D, D, D) by cubic splines in (size, size, size): axis by axis a product with what they make of ones."""
    spline: Any = zoom(np.eye(len(volume)), (size / len(volume), 1), order=3, grid_mode=True, mode="nearest")
    for _ in range(3):
        volume = np.tensordot(volume, spline, (0, 1))
    return volume


def map_rows(path: Path, maps: dict[str, Path], crop: float = 1.0, voxels: int | None = None) -> Path:
    """One row of pictures a map: central slices xy, xz, yz, projection along z, and the surface from three sides.

    maps: files by title. crop: share of the box that is shown. voxels: how many the surfaces enclose; by default what
    Otsu's level encloses in the last map. Raises InputError without matplotlib.
    """
    plt = pyplot()
    volumes = {title: _cropped(read_volume(file)[0].numpy(), crop) for title, file in maps.items()}
    last = list(volumes.values())[-1]
    voxels = voxels or _enclosed(last)
    columns = ("slice xy", "slice xz", "slice yz", "projection", "surface", "from above", "from the side")
    figure, axes = plt.subplots(
        len(volumes), len(columns), figsize=(1.75 * len(columns), 1.85 * len(volumes) + 0.3), squeeze=False
    )
    for row, (title, volume) in zip(axes, volumes.items(), strict=True):
        pictures = [*_planes(volume), *(surface_picture(volume, level_of_volume(volume, voxels), v) for v in VIEWS)]
        for axis, picture in zip(row, pictures, strict=True):
            _show(axis, picture)
        row[0].set_ylabel(title, fontsize=10)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    figure.tight_layout(pad=0.3)
    return save_figure(plt, figure, path)


def moving_picture(path: Path, maps: dict[str, tuple[NDArray, NDArray]]) -> Path:
    """Surfaces of maps (D, D, D) from three sides, one row an entry, each coloured by how much it moves (D, D, D).

    A surface is red where it moves as much as the hundredth part of its voxels that moves most. All surfaces enclose as
    many voxels as Otsu's level does in the last map.
    """
    plt = pyplot()
    last = list(maps.values())[-1][0]
    voxels = _enclosed(last)
    figure, axes = plt.subplots(len(maps), len(VIEWS), figsize=(2.4 * len(VIEWS), 2.4 * len(maps)), squeeze=False)
    for row, (label, (volume, moving)) in zip(axes, maps.items(), strict=True):
        level = level_of_volume(volume, voxels)
        low, high = np.percentile(moving[volume > level], [10, 99])
        for axis, view in zip(row, VIEWS, strict=True):
            part = (moving - low) / max(high - low, 1e-12)
            _show(axis, surface_picture(volume, level, view, moving=part))
        row[0].set_ylabel(label, fontsize=10)
    figure.tight_layout(pad=0.3)
    return save_figure(plt, figure, path)


def motion_picture(
    path: Path, along: NDArray, coordinate: NDArray, places: NDArray, maps: dict[str, list[Tensor]]
) -> Path:
    """Latents (N,) against a true coordinate (N,), and surfaces of maps at some `places` along them, one row an entry.

    All surfaces enclose as many voxels as Otsu's level does in the last map of the last row.
    """
    plt = pyplot()
    last = list(maps.values())[-1][-1].numpy()
    voxels = _enclosed(last)
    rows, columns = len(maps), len(places)
    figure = plt.figure(figsize=(3.6 + 1.7 * columns, 1.9 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns + 2)
    axis = figure.add_subplot(grid[:, :2])
    axis.scatter(coordinate, along, s=2, alpha=0.3, c=coordinate, cmap="turbo")
    axis.set(xlabel="true coordinate", ylabel="first component of z")
    for place in places:
        axis.axhline(place, color="black", linewidth=0.5)
    for i, (label, row) in enumerate(maps.items()):
        for j, volume in enumerate(row):
            axis = figure.add_subplot(grid[i, j + 2])
            values = volume.numpy()
            _show(axis, surface_picture(values, level_of_volume(values, voxels), VIEWS[0]))
            if j == 0:
                axis.set_ylabel(label, fontsize=10)
    return save_figure(plt, figure, path)


def _enclosed(volume: NDArray) -> int:
    """How many voxels of a map (D, D, D) Otsu's level encloses."""
    return int((volume > surface_level(volume)).sum())


def _planes(volume: NDArray) -> list[NDArray]:
    c = volume.shape[0] // 2
    return [plane[::-1] for plane in (volume[c], volume[:, c], volume[:, :, c], volume.sum(0))]


def _cropped(volume: NDArray, share: float) -> NDArray:
    box = volume.shape[0]
    half = max(4, round(share * box / 2))
    part = slice(max(0, box // 2 - half), box // 2 + half)
    return volume[part, part, part]


def _show(axis: Any, picture: NDArray) -> None:
    if picture.ndim == 2:
        low, high = np.percentile(picture, [1, 99.8])
        axis.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="bicubic")
    else:
        axis.imshow(picture, interpolation="bilinear")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def pyplot() -> Any:
    """matplotlib.pyplot that draws into files. Raises InputError without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("pictures of benchmarks need matplotlib: pip install 'cryoloom[bench]'.") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save_figure(plt: Any, figure: Any, path: Path) -> Path:
    """Write a figure of `pyplot` as a PNG and close it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return path
