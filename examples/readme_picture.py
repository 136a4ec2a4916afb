"""One picture of a whole demo: noisy particles, the map, its slices, where the particles looked from, and the FSC.

cryoloom demo -o demo
python examples/readme_picture.py demo docs/images/demo.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.ndimage import zoom

from cryoloom.data import read_particles, read_volume
from cryoloom.evaluate.maps import surface_level
from cryoloom.report.figures import isosurface

INK, BLUE, ORANGE = "#24303c", "#2f7ebc", "#d9822b"
LIGHT = np.array([-0.5, -0.6, 0.8])


def draw_particles(figure: plt.Figure, place, images: np.ndarray) -> None:
    """A wall of raw images (n, D, D), as they come from the microscope."""
    side = round(len(images) ** 0.5)
    for cell, image in zip(place.subgridspec(side, side, wspace=0.05, hspace=0.05), images, strict=True):
        axes = figure.add_subplot(cell)
        low, high = np.percentile(image, [1, 99])
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bilinear")
        axes.set_axis_off()


def draw_surface(axes, volume: np.ndarray, pixel_size: float) -> None:
    """The surface of a map, lit from one side."""
    fine = zoom(volume, 2, order=3, grid_mode=True, mode="grid-constant")
    vertices, faces = isosurface(fine, surface_level(volume), pixel_size / 2, triangles=200_000)
    # Seen along its shortest axis, with the longest one level, a molecule shows most of itself.
    short, _, long = np.linalg.svd(np.cov(vertices.T))[2][::-1]
    vertices = (vertices - vertices.mean(0)) @ np.stack([long, -short, np.cross(long, -short)]).T
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    # The order of the corners says in or out, but not which of the two: on the whole, out is away from the middle.
    normals *= np.sign((normals * corners.mean(1)).sum(1).mean())
    bright = np.clip(normals @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)
    depth = np.linalg.norm(corners.mean(1), axis=1)
    depth = (depth - depth.min()) / np.ptp(depth)
    colour = (0.25 + 0.6 * bright + 0.15 * depth)[:, None] * np.array([0.56, 0.74, 0.88]) + 0.12 * bright[:, None] ** 4
    colour = np.clip(colour, 0, 1)
    # Edges in the colour of their face: without them the seams between triangles show.
    axes.add_collection3d(Poly3DCollection(corners, facecolors=colour, edgecolors=colour, linewidths=0.3))
    reach = 0.68 * np.abs(vertices).max()
    for limit in (axes.set_xlim, axes.set_ylim, axes.set_zlim):
        limit(-reach, reach)
    axes.set_box_aspect((1, 1, 1))
    axes.set_axis_off()
    axes.view_init(elev=8, azim=-82)


def draw_slices(figure: plt.Figure, place, volume: np.ndarray) -> None:
    """The three central slices of a map."""
    centre = volume.shape[0] // 2
    planes = {"xy": volume[centre], "xz": volume[:, centre], "yz": volume[:, :, centre]}
    low, high = np.percentile(volume, 2), np.percentile(volume, 99.9)
    for cell, (name, plane) in zip(place.subgridspec(3, 1, hspace=0.06), planes.items(), strict=True):
        axes = figure.add_subplot(cell)
        axes.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bicubic")
        axes.text(2, 2, name, color="white", fontsize=8)
        axes.set_axis_off()


def draw_directions(figure: plt.Figure, place, rotation: np.ndarray) -> None:
    """The viewing direction Rᵀẑ of every particle on the sphere."""
    axes = figure.add_subplot(place, projection="mollweide")
    x, y, z = rotation[:, 2].T
    axes.scatter(np.arctan2(y, x), np.arcsin(np.clip(z, -1, 1)), s=1.5, color=BLUE, alpha=0.6, linewidths=0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("viewing directions", fontsize=9, color=INK)


def draw_fsc(axes: plt.Axes, run: Path) -> None:
    """FSC between half-maps, and to the truth where the run was evaluated."""
    for name, label, colour in (("fsc.csv", "half-maps", BLUE), ("fsc_truth.csv", "to the truth", ORANGE)):
        if (run / name).is_file():
            table = pd.read_csv(run / name)
            table = table[table["shell"] > 0]
            axes.plot(1 / table["resolution_angst"], table["fsc"], color=colour, label=label, linewidth=1.6)
    for level in (0.143, 0.5):
        axes.axhline(level, color="#999999", linewidth=0.7, linestyle=":")
    ticks = [t for t in (20, 10, 6, 5, 4, 3.5) if 1 / t < axes.get_xlim()[1]]
    axes.set_xticks([1 / t for t in ticks], [f"{t:g} Å" for t in ticks])
    axes.set_ylim(-0.05, 1.05)
    axes.tick_params(labelsize=7, colors=INK)
    axes.set_title("Fourier shell correlation", fontsize=9, color=INK)
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)


def picture(demo: Path, output: Path) -> None:
    """Draw the demo folder `demo`, with particles/ and run/ in it, into the image file `output`."""
    raw = read_particles(demo / "particles" / "particles.star")
    solved = read_particles(demo / "run" / "particles.star")
    volume, pixel_size = read_volume(demo / "run" / "volumes" / "volume.mrc")
    figure = plt.figure(figsize=(12, 4.1), facecolor="white")
    grid = figure.add_gridspec(
        1, 4, width_ratios=(1, 1.5, 0.36, 0.95), left=0.01, right=0.985, bottom=0.09, top=0.89, wspace=0.12
    )
    draw_particles(figure, grid[0], raw.images(slice(0, 16)).numpy())
    draw_surface(figure.add_subplot(grid[1], projection="3d", computed_zorder=False), volume.numpy(), pixel_size)
    draw_slices(figure, grid[2], volume.numpy())
    right = grid[3].subgridspec(2, 2, width_ratios=(0.03, 1), height_ratios=(1, 1.1), hspace=0.35)
    draw_directions(figure, right[0, 1], solved.rotation)
    draw_fsc(figure.add_subplot(right[1, 1]), demo / "run")
    for cell, text in ((grid[0], f"{len(raw):,} particles such as these"), (grid[1], "the map"), (grid[2], "slices")):
        box = cell.get_position(figure)
        figure.text((box.x0 + box.x1) / 2, 0.925, text, ha="center", fontsize=10, color=INK)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of `cryoloom demo`")
    parser.add_argument("output", type=Path, help="image file to write")
    arguments = parser.parse_args()
    picture(arguments.demo, arguments.output)
