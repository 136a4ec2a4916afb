"""Figures of a latent space and of a molecule's flexible regions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from cryoloom.evaluate.embedding import random_rows
from cryoloom.evaluate.maps import surface_level
from cryoloom.report.figures import PALETTE, isosurface, png_uri

# More points are not seen and make a page heavy.
POINTS = 8_000
HEAT = "Inferno"


def scatter_figure(table: pd.DataFrame, axes: tuple[str, str], centres: NDArray, titles: tuple[str, str]) -> go.Figure:
    """Particles on two coordinates of a table, by cluster, mixture component or density; clusters' numbers on it.

    table: rows with `axes`, cluster, component, density, particle. centres: rows (K,) of the clusters' particles.
    """
    shown = table.iloc[random_rows(len(table), POINTS, 0)].dropna(subset=list(axes))
    x, y = (shown[axis].to_numpy(np.float32) for axis in axes)
    figure = go.Figure()
    palette = [PALETTE[i % len(PALETTE)] for i in range(100)]
    colours: dict[str, Any] = {
        "cluster": [palette[i - 1] for i in shown["cluster"]],
        "mixture": [palette[i - 1] for i in shown["component"]],
        "density": shown["density"].to_numpy(np.float32),
    }
    custom = np.stack([shown["particle"], shown["cluster"]], 1)
    hover = "particle %{customdata[0]}, cluster %{customdata[1]}<extra></extra>"
    size = 3.5 if len(shown) > 2000 else 5
    for name, colour in colours.items():
        marker: dict[str, Any] = {"size": size, "opacity": 0.75, "color": colour}
        if name == "density":
            marker["colorscale"] = "Viridis"
        figure.add_scattergl(
            x=x, y=y, mode="markers", marker=marker, customdata=custom, hovertemplate=hover, visible=name == "cluster"
        )
    middle = table.iloc[centres]
    figure.add_scatter(
        x=middle[axes[0]], y=middle[axes[1]], mode="markers+text", text=middle["cluster"].astype(str),
        marker={"size": 19, "color": "rgba(255,255,255,0.9)", "line": {"width": 1.2, "color": "#444"}},
        textfont={"size": 11, "color": "#1d2329"}, hoverinfo="skip",
    )  # fmt: skip
    names = list(colours)
    buttons = [
        {"label": name, "method": "restyle", "args": [{"visible": [*(other == name for other in names), True]}]}
        for name in names
    ]
    figure.update_layout(
        height=430, template="none", showlegend=False, margin={"l": 56, "r": 16, "t": 44, "b": 44},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, "active": 0, "x": 0,
                      "xanchor": "left", "y": 1.02, "yanchor": "bottom", "showactive": True}],
    )  # fmt: skip
    figure.update_xaxes(title=titles[0])
    figure.update_yaxes(title=titles[1])
    return figure


def density_figure(x: NDArray, y: NDArray, titles: tuple[str, str]) -> go.Figure:
    """How densely particles (N,), (N,) lie in a plane: −ln of their number a cell against that of the fullest."""
    limits = [np.percentile(v, (0.2, 99.8)) for v in (x, y)]
    limits = [(low - 0.08 * (high - low), high + 0.08 * (high - low) + 1e-9) for low, high in limits]
    bins = int(np.clip(math.sqrt(len(x)) / 2, 24, 96))
    counts, ex, ey = np.histogram2d(x, y, bins=bins, range=limits)
    smooth = gaussian_filter(counts, max(1.0, bins / 48))
    with np.errstate(divide="ignore"):
        depth = -np.log(smooth / smooth.max())
    depth[depth > 6] = np.nan
    figure = go.Figure()
    figure.add_heatmap(
        x=(ex[1:] + ex[:-1]) / 2, y=(ey[1:] + ey[:-1]) / 2, z=depth.T.astype(np.float32),
        colorscale="Viridis_r", zmin=0, zmax=6, hovertemplate="−ln density %{z:.2f}<extra></extra>",
        colorbar={"title": {"text": "−ln density", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    )  # fmt: skip
    figure.update_layout(height=430, template="none", margin={"l": 56, "r": 16, "t": 44, "b": 44})
    figure.update_xaxes(title=titles[0])
    figure.update_yaxes(title=titles[1])
    return figure


def explained_figure(parts: dict[str, list[float]]) -> go.Figure:
    """Parts of the variance that components explain, one series a name, in per cent."""
    figure = go.Figure()
    most = 0
    for i, (name, values) in enumerate(parts.items()):
        shown = values[:10]
        most = max(most, len(shown))
        figure.add_bar(
            x=np.arange(1, len(shown) + 1), y=100 * np.array(shown), name=name, marker_color=PALETTE[i],
            hovertemplate="component %{x}: %{y:.1f} %<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        height=300, template="none", margin={"l": 56, "r": 16, "t": 36, "b": 44}, bargap=0.25,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip
    figure.update_xaxes(title="component", tickvals=list(range(1, most + 1)))
    figure.update_yaxes(title="% of variance", rangemode="tozero")
    return figure


def flexible_surface(mean: NDArray, variability: NDArray, pixel_size: float) -> go.Figure:
    """The mean map's surface, coloured by how much the map varies there."""
    vertices, faces = isosurface(mean, surface_level(mean), pixel_size)
    x, y, z = vertices.T
    i, j, k = faces.T
    places = vertices[:, ::-1].T / pixel_size + mean.shape[0] // 2
    # A surface moves where the density beside it changes: the largest value within a voxel or two.
    varies = map_coordinates(gaussian_filter(variability, 1.0), places, order=1, mode="nearest")
    figure = go.Figure()
    figure.add_mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, intensity=varies, colorscale=HEAT, cmin=0, cmax=float(varies.max()),
        colorbar={"title": {"text": "variability", "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 0.8},
        flatshading=False, hoverinfo="skip",
        lighting={"ambient": 0.6, "diffuse": 0.6, "specular": 0.1, "roughness": 0.6, "fresnel": 0.1},
        lightposition={"x": 1000, "y": 1500, "z": 2500},
    )  # fmt: skip
    hidden = {"visible": False}
    figure.update_layout(
        height=460, template="none", margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data", "dragmode": "orbit"},
        scene_camera={"eye": {"x": 1.25, "y": 1.25, "z": 0.8}},
    )  # fmt: skip
    return figure


def flexible_images(mean: NDArray, variability: NDArray) -> list[tuple[str, list[tuple[str, str]]]]:
    """Slices and projections of the mean map in grey with its variability in red on it: rows of (caption, data URI)."""
    centre = mean.shape[0] // 2
    slices = _flexible_row("slice", lambda v, axis: v.take(centre, axis), mean, variability)
    return [("slice", slices), ("projection", flexible_projections(mean, variability))]


def flexible_projections(mean: NDArray, variability: NDArray) -> list[tuple[str, str]]:
    """The projections of `flexible_images` alone."""
    return _flexible_row("projection", lambda v, axis: v.sum(axis), mean, variability)


def _flexible_row(
    title: str, reduce: Callable[[NDArray, int], NDArray], mean: NDArray, variability: NDArray
) -> list[tuple[str, str]]:
    grey = [reduce(mean, axis) for axis in range(3)]
    red = [reduce(variability, axis) for axis in range(3)]
    low, high = np.percentile(np.stack(grey), (1, 99.9))
    top = float(np.percentile(np.stack(red), 99.7))
    captions = [f"{title} {axes}" for axes in ("xy", "xz", "yz")]
    return [(c, _overlay(g, r, low, high, top)) for c, g, r in zip(captions, grey, red, strict=True)]


def _overlay(grey: NDArray, red: NDArray, low: float, high: float, top: float) -> str:
    base = 0.75 * np.clip((grey - low) / max(high - low, 1e-12), 0, 1)[..., None] * np.ones(3)
    part = np.clip(red / max(top, 1e-12), 0, 1)[..., None] ** 1.5
    mixed = base * (1 - part) + part * np.array([1.0, 0.36, 0.18])
    return png_uri(Image.fromarray((255 * mixed[::-1]).astype(np.uint8)).resize((320, 320), Image.Resampling.BICUBIC))
