"""Figures of a report: plotly figures and grey images from plain arrays, without colours of their own background."""

import base64
import io
import math
from typing import Any

import healpix
import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from plotly.subplots import make_subplots
from scipy.ndimage import gaussian_filter, zoom
from skimage.measure import marching_cubes

from cryoloom.evaluate.maps import surface_level

PALETTE = ("#2f7ebc", "#d9822b", "#3f9b6c", "#b5477a", "#7a6fc0", "#8a8a3a", "#4aa7b5", "#c0504d")
_SEQUENTIAL = "Viridis"


def plain_figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the report's layout."""
    figure = go.Figure()
    figure.update_layout(height=height, margin={"l": 56, "r": 16, "t": 28, "b": 44}, template="none", **layout)
    return figure


def fsc_figure(curves: dict[str, tuple[NDArray, NDArray]], field_angst: float) -> go.Figure:
    """FSC curves by name, each (shells, values), on 1/Å with resolutions as labels; lines at 0.143 and 0.5.

    field_angst: width of the box in Å, so that frequency = shell / field.
    """
    figure = plain_figure(360, hovermode="x unified", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    last = 1.0
    for i, (name, (shells, values)) in enumerate(curves.items()):
        last = max(last, float(shells.max()))
        resolution = field_angst / np.maximum(shells, 1e-9)
        main = i == 0
        figure.add_scatter(
            x=shells,
            y=values,
            name=name,
            customdata=resolution,
            hovertemplate="%{y:.3f} at %{customdata:.2f} Å",
            line={"color": PALETTE[i % len(PALETTE)], "width": 2.6 if main else 1.6},
        )
    for level in (0.143, 0.5):
        figure.add_hline(level, line={"dash": "dot", "width": 1, "color": "#888"}, annotation_text=f"{level:g}")
    ticks = np.unique(np.linspace(last / 8, last, 8).round()).clip(min=1)
    labels = [f"{field_angst / t:.1f}" if field_angst / t < 20 else f"{field_angst / t:.0f}" for t in ticks]
    figure.update_xaxes(title="resolution (Å)", tickvals=ticks, ticktext=labels, range=[0, last])
    figure.update_yaxes(title="correlation", range=[-0.1, 1.05])
    return figure


def _mollweide_directions(width: int, height: int) -> tuple[NDArray, NDArray]:
    """Directions (height, width, 3) of the pixels of a Mollweide ellipse, and which pixels lie in it."""
    x, y = np.meshgrid(np.linspace(-2, 2, width), np.linspace(-1, 1, height))
    inside = (x / 2) ** 2 + y**2 <= 1
    theta = np.arcsin(np.clip(y, -1, 1))
    latitude = np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / math.pi, -1, 1))
    longitude = np.pi * x / (2 * np.maximum(np.cos(theta), 1e-6))
    flat = np.cos(latitude)
    vector = np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], -1)
    return vector, inside


def orientation_figure(rotation: NDArray) -> go.Figure:
    """How often each viewing direction Rᵀẑ of rotations (N, 3, 3) occurs, relative to uniform, as a Mollweide map."""
    nside = 8
    x, y, z = rotation[:, 2].T  # row 2 of R is Rᵀẑ
    counts = np.bincount(healpix.vec2pix(nside, x, y, z), minlength=12 * nside**2)
    vector, inside = _mollweide_directions(200, 100)
    # Smoothed over about a pixel of the sphere, or the eye would follow the noise of counting.
    centres = np.stack(healpix.pix2vec(nside, np.arange(len(counts))), -1)
    kernel = np.exp((vector[inside] @ centres.T - 1) / math.radians(9) ** 2)
    density = np.full(inside.shape, np.nan, dtype=np.float32)
    density[inside] = kernel @ counts / kernel.sum(1) / max(counts.mean(), 1e-9)
    figure = plain_figure(300)
    figure.add_heatmap(
        z=density,
        colorscale=_SEQUENTIAL,
        zmin=0,
        zmax=max(float(np.nanmax(density)), 1.5),
        hovertemplate="%{z:.2f} × uniform<extra></extra>",
        colorbar={"title": {"text": "× uniform", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def histogram_figure(
    values: NDArray, label: str, colour: str = PALETTE[0], *, median: bool = True, height: int = 240
) -> go.Figure:
    """Histogram of values (N,), their finite part up to the 99.5th percentile, with the median marked where asked."""
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, bins=48, range=(low, high))
    figure = plain_figure(height, bargap=0.04, showlegend=False)
    figure.add_bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=counts,
        width=np.diff(edges) * 0.96,
        marker_color=colour,
        hovertemplate="%{x:.3g}: %{y} particles<extra></extra>",
    )
    if median:
        middle = float(np.median(values))
        line = {"width": 1.5, "dash": "dash", "color": "#888"}
        figure.add_vline(middle, line=line, annotation_text=f"median {middle:.3g}")
    figure.update_xaxes(title=label)
    figure.update_yaxes(title="particles", range=[0, 1.2 * max(counts.max(), 1)])
    return figure


def progress_figure(columns: dict[str, NDArray], stages: list[str]) -> go.Figure:
    """Numbers (n,) by name, one small panel each over the steps of a run, coloured by stage."""
    names = list(columns)
    n_columns = 2 if len(names) > 1 else 1
    n_rows = math.ceil(len(names) / n_columns)
    figure = make_subplots(
        rows=n_rows, cols=n_columns, subplot_titles=[_plain(n) for n in names], vertical_spacing=0.32 / max(n_rows, 1)
    )
    steps, stage_of = np.arange(1, len(stages) + 1), np.array(stages)
    order = list(dict.fromkeys(stages))
    named: set[str] = set()
    for i, name in enumerate(names):
        for j, stage in enumerate(order):
            shown = (stage_of == stage) & np.isfinite(columns[name])
            if not shown.any():
                continue
            figure.add_scatter(
                x=steps[shown],
                y=columns[name][shown],
                name=stage,
                legendgroup=stage,
                showlegend=stage not in named,
                mode="lines" if shown.sum() > 1 else "markers",
                line={"color": PALETTE[j % len(PALETTE)], "width": 1.8},
                row=i // n_columns + 1,
                col=i % n_columns + 1,
            )
            named.add(stage)
    figure.update_layout(
        height=60 + 200 * n_rows,
        template="none",
        margin={"l": 56, "r": 16, "t": 64, "b": 36},
        legend={"orientation": "h", "y": 1 + 50 / (60 + 200 * n_rows), "yanchor": "bottom"},
    )
    figure.update_annotations(font_size=13)
    return figure


def _plain(name: str) -> str:
    """A column's name for people: `resolution_angst` → resolution (Å)."""
    units = {"angst": "Å", "gb": "GB", "deg": "°", "px": "px"}
    if name == "images_per_s":
        return "images per second"
    head, _, tail = name.rpartition("_")
    return f"{head.replace('_', ' ')} ({units[tail]})" if head and tail in units else name.replace("_", " ")


def isosurface(volume: NDArray, level: float, pixel_size: float, triangles: int = 30_000) -> tuple[NDArray, NDArray]:
    """Vertices (V, 3), (x, y, z) in Å about the box centre, and triangles (T, 3), at most about `triangles` of them."""
    coarse, scale = np.asarray(volume, dtype=np.float32), 1.0
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3))
    # A map of noise may have no surface at the level, or lose it as it is blurred.
    while float(coarse.min()) < level < float(coarse.max()):
        vertices, faces = marching_cubes(np.pad(coarse, 1, constant_values=float(coarse.min())), level)[:2]
        vertices, faces = (np.asarray(vertices) - 0.5) * scale, np.asarray(faces)
        if len(faces) <= triangles or coarse.shape[0] <= 16:
            break
        # Triangles go with the square of the sampling; a blur first, or thin parts would vanish.
        step = max(0.5, min(0.95, math.sqrt(triangles / len(faces))))
        blurred = gaussian_filter(coarse, 0.3 / step)
        coarse = np.asarray(zoom(blurred, step, order=1, grid_mode=True, mode="grid-constant"), dtype=np.float32)
        scale = volume.shape[0] / coarse.shape[0]
    centred = (vertices - 0.5 - volume.shape[0] // 2) * pixel_size
    return centred[:, ::-1].astype(np.float32), faces.astype(np.int32)


def surface_figure(volume: NDArray, pixel_size: float) -> go.Figure:
    """A map (D, D, D) = (z, y, x) as a surface that can be turned, at three contour levels to choose from."""
    volume = np.asarray(volume, dtype=np.float32)
    figure = plain_figure(520)
    level, top = surface_level(volume), float(volume.max())
    levels = {"lower": 0.6 * level, "contour": level, "higher": level + 0.35 * (top - level)}
    for name, value in levels.items():
        vertices, faces = isosurface(volume, value, pixel_size, 30_000 if name == "contour" else 15_000)
        x, y, z = vertices.T
        i, j, k = faces.T
        figure.add_mesh3d(
            x=x, y=y, z=z, i=i, j=j, k=k,
            name=name,
            visible=name == "contour",
            color="#8fb4d4",
            flatshading=False,
            lighting={"ambient": 0.45, "diffuse": 0.75, "specular": 0.25, "roughness": 0.5, "fresnel": 0.1},
            lightposition={"x": 1000, "y": 1500, "z": 2500},
            hoverinfo="skip",
        )  # fmt: skip
    hidden = {"visible": False}
    buttons = [
        {"label": name, "method": "restyle", "args": [{"visible": [other == name for other in levels]}]}
        for name in levels
    ]
    figure.update_layout(
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data", "dragmode": "orbit",
               "domain": {"x": [0, 1], "y": [0.08, 1]}},
        scene_camera={"eye": {"x": 1.25, "y": 1.25, "z": 0.8}},
        updatemenus=[
            {"type": "buttons", "direction": "right", "buttons": buttons, "active": 1, "x": 0.5, "xanchor": "center",
             "y": 0.0, "yanchor": "bottom", "showactive": True}
        ],
    )  # fmt: skip
    return figure


def grey_image(plane: NDArray, low: float, high: float, size: int = 320) -> str:
    """A data URI of a grey PNG of a plane (D, D) = (y, x), y upwards, from black at `low` to white at `high`."""
    scaled = np.clip((plane - low) / max(high - low, 1e-12), 0, 1)
    picture = Image.fromarray((255 * scaled[::-1]).astype(np.uint8))
    return png_uri(picture.resize((size, size), Image.Resampling.BICUBIC))


def png_uri(picture: Image.Image) -> str:
    """A data URI of a picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def map_images(volume: NDArray) -> dict[str, list[tuple[str, str]]]:
    """Central slices and projections of a map (D, D, D) along z, y, x: rows of (caption, data URI)."""
    centre = volume.shape[0] // 2
    slices = [volume[centre], volume[:, centre], volume[:, :, centre]]
    sums = [volume.sum(axis) for axis in range(3)]
    rows = {}
    for title, planes in (("slice", slices), ("projection", sums)):
        values = np.stack(planes)
        low, high = np.percentile(values, 1), np.percentile(values, 99.9)
        captions = [f"{title} {axes}" for axes in ("xy", "xz", "yz")]
        rows[title] = [(c, grey_image(p, low, high)) for c, p in zip(captions, planes, strict=True)]
    return rows
