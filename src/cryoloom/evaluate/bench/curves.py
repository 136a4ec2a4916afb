"""Curves for the pages: how errors are distributed, and how the power of maps falls with frequency."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoloom.evaluate.bench.pictures import pyplot, save_figure

_COLOURS = "turbo"
# Below this nothing is to be told apart, and a logarithm needs a floor.
_LEAST = 1e-6


def share_below(path: Path, errors: dict[str, NDArray], name: str) -> Path:
    """One curve an entry of `errors` (N,): the share of particles whose error, called `name`, is below x."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
    colours = plt.get_cmap(_COLOURS)(np.linspace(0.08, 0.92, len(errors)))
    for (label, values), colour in zip(errors.items(), colours, strict=True):
        x = np.maximum(np.sort(values), _LEAST)
        axis.step(x, np.arange(1, len(x) + 1) / len(x), where="post", label=label, color=colour)
    axis.set(xscale="log", xlabel=name, ylabel="share of particles below", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return save_figure(plt, figure, path)


def power_picture(path: Path, slices: dict[str, NDArray], spectra: dict[str, NDArray], pixel_size: float) -> Path:
    """Power of central slices (D, D) on a log scale, all on one, and the mean power of shells (D/2,) of each map."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(slices) + 1, figsize=(2.4 * len(slices) + 4.2, 2.9), layout="constrained")
    shown = {label: np.log10(np.maximum(power, 1e-30)) for label, power in slices.items()}
    top = max(float(values.max()) for values in shown.values())
    for axis, (label, values) in zip(axes, shown.items(), strict=False):
        axis.imshow(values, cmap="magma", vmin=top - 8, vmax=top, origin="lower")
        axis.set(title=label, xticks=[], yticks=[])
    for label, power in spectra.items():
        shells = np.arange(1, len(power))
        box = 2 * len(power)
        axes[-1].semilogy(shells / (box * pixel_size), np.maximum(power[1:], 1e-30), label=label)
    axes[-1].set(xlabel="frequency, 1/Å", ylabel="mean |V(k)|²")
    axes[-1].legend(fontsize=8, frameon=False)
    return save_figure(plt, figure, path)


def training_curves(
    path: Path, curves: dict[str, list[float]], name: str, runs: dict[str, list[list[float]]] | None = None
) -> Path:
    """One curve an entry: a number called `name` after each pass over the images.

    runs: of some entries all runs, between whose least and most a band is drawn.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
    colours = plt.get_cmap(_COLOURS)(np.linspace(0.08, 0.92, len(curves)))
    for (label, values), colour in zip(curves.items(), colours, strict=True):
        axis.semilogy(np.arange(1, len(values) + 1), values, marker="o", markersize=3, label=label, color=colour)
        if runs and label in runs:
            least, most = np.min(runs[label], 0), np.max(runs[label], 0)
            axis.fill_between(np.arange(1, len(values) + 1), least, most, color=colour, alpha=0.15, linewidth=0)
    axis.set(xlabel="pass over the images", ylabel=name)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return save_figure(plt, figure, path)


def frames_picture(path: Path, latents: dict[str, Tensor], place: Tensor, gain: Tensor, unit: str = "°") -> Path:
    """Latent (N,) of frames against their true place (N,) on a path, one panel each; a histogram of gains (M,) in %."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(latents) + 1, figsize=(3.0 * len(latents) + 3.4, 2.9), layout="constrained")
    for axis, (label, latent) in zip(axes, latents.items(), strict=False):
        axis.scatter(place.numpy(), latent.numpy(), s=4, c=place.numpy(), cmap=_COLOURS)
        axis.set(title=label, xlabel=f"true place on the path, {unit.strip()}", ylabel="latent")
    axes[-1].hist(gain.numpy(), bins=40, color="#5a8fb0")
    axes[-1].axvline(0, color="black", linewidth=0.8)
    axes[-1].set(xlabel="improvement factor, %", ylabel="frames")
    return save_figure(plt, figure, path)


def grids_picture(path: Path, panels: dict[str, NDArray], rows: list[str], columns: list[str], name: str) -> Path:
    """A grid (R, C) of numbers called `name` a panel, each number written on its colour."""
    plt = pyplot()
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.6 + 2.6 * len(panels), 1.0 + 0.9 * len(rows)), squeeze=False, layout="constrained"
    )
    top = max(float(np.abs(grid).max()) for grid in panels.values())
    for axis, (label, grid) in zip(axes[0], panels.items(), strict=True):
        shown = axis.imshow(grid, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
        for (i, j), value in np.ndenumerate(grid):
            on_dark = abs(value) > 0.6 * top
            axis.text(j, i, f"{value:+.1f}", ha="center", va="center", color="white" if on_dark else "black")
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_title(label, fontsize=10)
    figure.colorbar(shown, ax=axes[0].tolist(), label=name)
    return save_figure(plt, figure, path)


def fsc_spread(path: Path, curves: dict[str, Tensor], pixel_size: float) -> Path:
    """Mean of FSC curves (N, D/2) to the truth, one line an entry, within what holds four fifths of them."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
    for i, (label, each) in enumerate(curves.items()):
        shells = torch.arange(1, each.shape[1])
        frequency = (shells / (2 * each.shape[1] * pixel_size)).numpy()
        low, high = (each.quantile(q, dim=0)[1:].numpy() for q in (0.1, 0.9))
        axis.fill_between(frequency, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
        axis.plot(frequency, each.mean(0)[1:].numpy(), color=f"C{i}", label=label)
    axis.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    axis.set(xlabel="frequency, 1/Å", ylabel="FSC to the truth", ylim=(0, 1.02))
    axis.legend(fontsize=8, frameon=False)
    return save_figure(plt, figure, path)
