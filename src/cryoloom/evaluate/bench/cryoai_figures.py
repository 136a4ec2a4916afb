"""CryoAI: Fig. 3, time by the number of images; Fig. 5, symmetric loss and fields."""

from collections.abc import Sequence
from functools import partial
from itertools import count
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import torch

from cryoloom.data.mrc import read_volume
from cryoloom.evaluate.bench.cryoai_runs import (
    ADK,
    ERROR,
    SCALES,
    Sizes,
    cryoai_run,
    has_mirror_plane,
    rotation_error,
    simulated,
    wall_seconds,
)
from cryoloom.evaluate.bench.curves import training_curves
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.runs import Evaluated, seeded
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.fsc import fsc
from cryoloom.evaluate.truth import true_map
from cryoloom.model.fields.build import build_field
from cryoloom.physics.alignment import align_volume

# 10 Å of the paper's 3.77 Å pixels.
_REACHED_PX = 2.65
_OURS: dict[str, dict[str, object]] = {
    "as published": {"spread": 0, "rehearsal": 0},
    "with spread and rehearsal": {"spread": 1, "rehearsal": 1},
}


def fig3(book: Notebook) -> None:
    """Time until a resolution is reached, with few images and with many, medians of seeds."""
    s = book.sizes
    # A machine is not as fast at all times: what is compared runs one after the other, and is compared seed by seed.
    pairs = [tuple(_watched(book, n, seed) for n in (s.particles, s.many)) for seed in range(s.seeds)]
    curves = {}
    for n, found in zip((s.particles, s.many), zip(*pairs, strict=True), strict=True):
        curves[f"{n:,} images"] = found[0].pixels
        book.row(f"AdK, {n:,} images: time to {_REACHED_PX:g} px", median(w.time for w in found), "s")
        book.row(f"AdK, {n:,} images: passes to {_REACHED_PX:g} px", median(w.passes for w in found))
        book.row(f"AdK, {n:,} images: whole run, wall", median(wall_seconds(w.run) for w in found), "s")
        book.row(f"AdK, {n:,} images: median {ERROR}", median(rotation_error(w.run) for w in found))
    what = f"to {_REACHED_PX:g} px, {s.many:,} images over {s.particles:,}, median of seeds"
    book.row(f"Time {what}", median(many.time / few.time for few, many in pairs), "×", must=1.2, aim=1.0)
    book.row(f"Passes {what}", median(many.passes / few.passes for few, many in pairs), "×")
    training_curves(book.images / "cryoai_fig3.png", curves, "resolution to the truth, FSC 0.5, px")
    caption = f"Resolution after each {s.particles:,} images seen, of a small set and of a large one; seed 0."
    book.pictures.append(Picture("cryoai_fig3.png", caption))
    book.notes.append(
        f"AdK without noise, simulated at the box of {s.box}; a pass sees {s.particles:,} images, drawn anew of the "
        f"large set. Resolution to the truth, FSC 0.5, between passes by a straight line. Otherwise as Table 1, "
        f"{s.passes} passes, {s.seeds} seeds."
    )


class _Watched(NamedTuple):
    """A run, and after each of its passes the seconds and the resolution to the truth in px."""

    run: Evaluated
    seconds: list[float]
    pixels: list[float]

    @property
    def time(self) -> float:
        """Seconds until the resolution was reached first; not a number where it never was."""
        return self._reached(self.seconds)

    @property
    def passes(self) -> float:
        """The same in passes."""
        return self._reached(range(1, len(self.pixels) + 1))

    def _reached(self, spent: Sequence[float]) -> float:
        after = next((i for i, px in enumerate(self.pixels) if px <= _REACHED_PX), None)
        if after is None:
            return float("nan")
        last = max(after - 1, 0)
        return float(np.interp(-_REACHED_PX, [-self.pixels[last], -self.pixels[after]], [spent[last], spent[after]]))


def _watched(book: Notebook, n: int, seed: int) -> _Watched:
    data, run = simulated(book, ADK, f"set-{n}", "inf", n, book.sizes.box), seeded(f"run-{n}", seed)
    found = cryoai_run(book, ADK, data, run, "--train.keep-maps", seed=seed, train_images=book.sizes.particles)
    seconds = [line["seconds"] for line in found.metrics if line["stage"] == "train"]
    return _Watched(found, seconds, _by_pass(book, run, data, 0.5))


def symmetric(book: Notebook) -> None:
    """False mirror planes with and without the symmetric loss, as published and with what we add."""
    s, curves = book.sizes, {}
    data = simulated(book, ADK, "ideal", "inf", box=s.box)
    for words, added in _OURS.items():
        for loss in ("symmetric", "no-symmetric"):
            label, name = f"{loss} loss, {words}", f"{loss}-{'-'.join(map(str, added.values()))}"
            runs = [
                cryoai_run(book, ADK, data, f"{name}-{seed}", f"--{loss}-loss", seed=seed, **added)
                for seed in range(s.seeds)
            ]
            mirrored = sum(has_mirror_plane(book, f"{name}-{seed}") for seed in range(s.seeds))
            goals: dict[str, Any] = {"must": 0} if loss == "symmetric" and added["rehearsal"] else {}
            book.row(f"{label}: false mirror planes, of {s.seeds} seeds", mirrored, **goals)
            error = median(map(rotation_error, runs))
            book.row(f"{label}: median {ERROR}, median of seeds", error)
            curves[label] = [mean(values) for values in zip(*(r.column("unexplained") for r in runs), strict=True)]
    training_curves(book.images / "cryoai_fig5_loss.png", curves, "share of the images' power unexplained")
    book.pictures.append(Picture("cryoai_fig5_loss.png", f"Mean of {s.seeds} seeds, pass by pass."))
    book.notes.append(
        f"AdK without noise in a box of {s.box}, FourierNet of width {s.width}, {s.passes} passes. A map has a "
        "false mirror plane where its correlation with its reflection in some plane, over shells to 8 Fourier pixels, "
        "is above 0.7; that of the true map is 0.50."
    )


def fields(book: Notebook, published: bool = False) -> None:
    """FourierNet, SIREN and a ReLU network with positional encoding, of about as many parameters.

    published: networks have to learn how a spectrum falls; else their values are scaled to it, shell by shell.
    """
    s, curves = book.sizes, {}
    data = simulated(book, ADK, "fields", "inf", s.field_particles, s.box)
    flag, words = ("--network.no-shell-scale", ", as published") if published else ("--network.shell-scale", "")
    for settings in s.fields:
        name, run = settings.field, settings.field + "-published" * published
        size = {"network_width": settings.network.width, "network_blocks": settings.network.blocks}
        given = {"field": name, "train_passes": s.field_passes, **size}
        found = []
        for seed in range(s.seeds):
            cryoai_run(book, ADK, data, seeded(run, seed), "--train.keep-maps", flag, seed=seed, **given)
            found.append(_by_pass(book, seeded(run, seed), data, 0.143))
        curves[name] = [median(pixels) for pixels in zip(*found, strict=True)]
        built = build_field(settings, s.box, torch.Generator())
        book.row(f"{name}{words}: parameters", sum(p.numel() for p in built.parameters()))
        book.row(f"{name}{words}: resolution, FSC 0.143, mean over the passes", mean(curves[name]), "px")
        book.row(f"{name}{words}: resolution, FSC 0.143, at the end", curves[name][-1], "px")
    first = float(min(curves, key=lambda name: mean(curves[name])) == "fouriernet")
    must = 1 if published else None
    book.row(f"FourierNet converges before SIREN and ReLU + encoding{words}", first, must=must, better="higher")
    picture = f"cryoai_fig5_fields{'_published' * published}.png"
    training_curves(book.images / picture, curves, "resolution to the truth, FSC 0.143, px")
    book.pictures.append(Picture(picture, "Resolution after each pass, by the field."))
    book.notes.append(
        f"AdK without noise, {s.field_particles:,} images in a box of {s.box}, {s.field_passes} passes, medians of "
        f"{s.seeds} seeds."
    )


def _by_pass(book: Notebook, run: str, data: str, threshold: float) -> list[float]:
    """Resolution to the truth, px, of the map after each pass."""
    folder, found = book.bench.folder, []
    for path in (folder / run / f"volumes/pass_{i}.mrc" for i in count(1)):
        if not path.exists():
            return found
        volume, pixel_size = read_volume(path)
        truth = true_map(folder / data / "truth", volume.shape[-1], pixel_size)
        curve = fsc(align_volume(volume, truth).volume, truth, pixel_size)
        found.append(curve.resolution(threshold) / pixel_size)
    return found


_SCALES = {**SCALES, "mini": Sizes(box=32, passes=24, coefficients=0.4)}

FIG3 = Table(
    name="cryoai-fig3",
    title="CryoAI, Fig. 3: time by the number of images",
    about="Time until the map is good enough, from few images and from many.",
    parts={"time": fig3},
    scales=_SCALES,
)
FIG5 = Table(
    name="cryoai-fig5",
    title="CryoAI, Fig. 5: symmetric loss and fields",
    about="False mirror planes with and without the symmetric loss; three kinds of network as the field.",
    parts={"loss": symmetric, "fields": fields, "fields-published": partial(fields, published=True)},
    scales=_SCALES,
)
