"""Sections of the report on a run's conformations: where particles lie in latent space, and what moves."""

import base64
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cryoloom.evaluate.film import frames, gif_bytes
from cryoloom.evaluate.landscape import Landscape
from cryoloom.report import latent_figures as figures
from cryoloom.report.contents import RunContents
from cryoloom.report.figures import png_uri
from cryoloom.report.page import Page

# Channels of attention that are shown.
CHANNELS = 6
_AXES = {"graph": "Shortest way over the graph of neighbours, from end to end of pc1"}


def conformations(run: RunContents, page: Page) -> None:
    """Latent space, the clusters' maps, traversals, and what pose and defocus explain."""
    found = run.landscape
    if found is None:
        return
    table, rows = found.particles, found.clusters["particle"].to_numpy()
    explained = found.summary["latent_variance_explained"]
    has_second = "pc2" in table
    axes = ("pc1", "pc2") if has_second else ("pc1", "density")
    titles = (_axis_title(1, explained), _axis_title(2, explained) if has_second else "log density")
    first = page.plot("latent", figures.scatter_figure(table, axes, rows, titles))
    if "umap1" in table:
        known = table["umap1"].notna().to_numpy()
        places = rows[known[rows]]
        second = page.plot("umap", figures.scatter_figure(table, ("umap1", "umap2"), places, ("UMAP 1", "UMAP 2")))
    else:
        x, y = (table[axis].to_numpy(float) for axis in axes)
        second = page.plot("latent-density", figures.density_figure(x, y, titles))
    plots = f'<div class="row two"><div class="card">{first}</div><div class="card">{second}</div></div>'
    parts = {"of the latents": explained, "of the maps": found.summary["volume_variance_explained"]}
    bars = page.plot("explained", figures.explained_figure(parts))
    below = f'<div class="row two"><div class="card">{bars}</div><div class="card">{_confounds(found)}</div></div>'
    lead = (
        "Each particle's conformation on the principal components of the latent space; numbers are the clusters below. "
        f"A mixture of Gaussians finds {found.summary['mixture_components']} "
        f"{'component' if found.summary['mixture_components'] == 1 else 'components'} (BIC)."
    )
    strips = "".join(_traversal(axis, maps) for axis, maps in found.maps.items() if axis != "clusters")
    page.section("conformations", "Conformations", lead, plots + _clusters(found) + strips + below)


def _axis_title(number: int, explained: list[float]) -> str:
    return f"pc{number} ({100 * explained[number - 1]:.0f} % of the variance)"


def _clusters(found: Landscape) -> str:
    """A picture of each cluster's map, and how many particles it has."""
    pictures = frames([torch.from_numpy(volume) for volume in found.maps["clusters"]], 200, sides=1)
    cells = []
    sizes = found.clusters["particles"].to_numpy()
    for i, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        caption = f"{i + 1}: {size:,} particles ({size / sizes.sum():.0%})"
        cells.append(_figure(_png(picture), caption))
    return f'<h3>Maps at the middle of each cluster</h3><div class="strip light">{"".join(cells)}</div>'


def _traversal(axis: str, maps: NDArray) -> str:
    """A film and its frames along one axis."""
    pictures = frames([torch.from_numpy(volume) for volume in maps], 200)
    half = pictures[0].shape[0]
    film = "data:image/gif;base64," + base64.b64encode(gif_bytes(pictures, True)).decode()
    title = _AXES.get(axis, f"Along {axis}, from its 5th to its 95th percentile")
    cells = "".join(_figure(_png(picture[:, :half]), "") for picture in pictures)
    moving = f'<figure class="film"><img src="{film}" alt="film along {escape(axis)}"></figure>'
    return f'<h3>{title}</h3><div class="walk light">{moving}<div class="strip">{cells}</div></div>'


def _figure(uri: str, caption: str) -> str:
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{uri}" alt="{escape(caption) or "map"}">{said}</figure>'


def _png(picture: NDArray) -> str:
    return png_uri(Image.fromarray(picture).quantize(64))


def _confounds(found: Landscape) -> str:
    """What pose, shift and defocus explain of the latents, in per cent."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{100 * value['whole']:.1f} %</td></tr>"
        for name, value in found.summary["explained_by"].items()
    )
    said = "What explains the latents' variance, other than conformation; much more than a few per cent is a warning."
    return f"<h3>{said}</h3><table>{rows}</table>" if rows else f"<h3>{said}</h3>"


def flexible_regions(run: RunContents, page: Page) -> None:
    """The map coloured by how much it varies, as the landscape or else the run itself tells it."""
    found = run.landscape
    if found is not None and found.mean is not None and found.variability is not None:
        mean, varies, pixel_size = found.mean, found.variability, found.pixel_size
        lead = (
            "Mean over the conformations, coloured by the standard deviation of each voxel between them. The maps are "
            "analysis/mean.mrc and analysis/variability.mrc."
        )
    elif run.volume is not None and "flexibility" in run.flexible:
        mean, varies, pixel_size = run.volume, run.flexible["flexibility"], run.pixel_size
        lead = (
            "The map, coloured by the standard deviation of the density between the conformations of particles. The "
            "maps are volumes/flexibility.mrc and, for each channel, volumes/attention_00.mrc and so on."
        )
    else:
        return
    if not np.ptp(varies) > 0:
        return
    surface = page.plot("flexible", figures.flexible_surface(mean, varies, pixel_size))
    planes = "".join(
        f'<h3>{title.capitalize()}s</h3><div class="planes">{"".join(_figure(u, c) for c, u in images)}</div>'
        for title, images in figures.flexible_images(mean, varies)
    )
    body = f'<div class="row map"><div class="card">{surface}</div><div class="card">{planes}</div></div>'
    page.section("flexibility", "Flexible regions", lead, body + _channels(mean, run.flexible))


def _channels(mean: NDArray, flexible: dict[str, NDArray]) -> str:
    """Projections of the channels that vary most, in red on the map."""
    channels = {name: spread for name, spread in flexible.items() if name.startswith("attention")}
    # What channels add to the solvent cancels: only where there is molecule does their share count.
    inside = np.clip(mean, 0, None)
    strongest = sorted(channels, key=lambda name: -float((inside * channels[name]).sum()))[:CHANNELS]
    cells = [_figure(figures.flexible_projections(mean, channels[name])[0][1], name) for name in strongest]
    title = "Channels of attention that vary most: parts that move together share one"
    return f'<h3>{title}</h3><div class="strip">{"".join(cells)}</div>' if cells else ""
