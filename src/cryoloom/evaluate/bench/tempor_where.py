"""Where TEMPOR gains, which the paper does not show: by motion, noise, movies; and on a nanoparticle that dissolves."""

import tarfile
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor
from torch.nn.functional import pad

from cryoloom.data.mrc import write_volume
from cryoloom.evaluate.bench.curves import grids_picture
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.bench.tempor_films import HIGHER, PAPER, Film, Sizes, compared

_SERIES = "liquid/AutoLCET_etching_18x3D_binary.tar.gz"
# The files do not say it; it decides nothing but the unit in which resolution is told.
_VOXEL = 5.0


@dataclass(frozen=True)
class MapSizes(Sizes):
    """As `Sizes`; spans: degrees by which the phantom's half turns; counts: of movies."""

    spans: tuple[float, ...] = (27.0, 81.0)
    counts: tuple[int, ...] = (30, 100)


def gains(book: Notebook) -> None:
    """Mean improvement on cryodrgn for motions of two sizes, at two noises, from few movies and from many."""
    s = book.sizes
    found = np.zeros((len(s.counts), len(s.spans), len(s.snrs)))
    for place in np.ndindex(*found.shape):
        count, span, snr = s.counts[place[0]], s.spans[place[1]], s.snrs[place[2]]
        film = Film(book, f"{span:g}-{snr:g}-{count}", replace(s, movies=count, span=span, snr=snr))
        pair, what = film.simulate("reversing").pair(), f"{span:g}°, SNR {snr:g}, {count} movies"
        found[place] = pair.mean
        book.row(f"{what}: mean improvement, eq. 16", pair.mean, "%", **HIGHER)
        book.row(f"{what}: frames better than cryodrgn", pair.better, "%", **HIGHER)
        book.row(f"{what}: error of the angle, cryodrgn", pair.baseline.path_error, "°")
        book.row(f"{what}: error of the angle, tempor", pair.ours.path_error, "°")
    panels = {f"{count} movies": grid for count, grid in zip(s.counts, found, strict=True)}
    rows, columns = [f"{span:g}°" for span in s.spans], [f"SNR {snr:g}" for snr in s.snrs]
    grids_picture(book.images / "tempor_map.png", panels, rows, columns, "mean improvement, %")
    book.pictures.append(Picture("tempor_map.png", "Mean improvement of tempor on cryodrgn, by motion, noise, movies."))
    book.notes.append(
        f"The phantom's half turns to and fro from a random place, {s.frames} frames a movie, box {s.box} of "
        f"{s.pixel:g} Å, B-factor {s.b_factor:g} Å², poses known; both systems for {s.all_passes} passes."
    )


def etching(book: Notebook) -> None:
    """A measured series of a nanoparticle dissolving in a liquid cell as the truth of movies."""
    names = []
    for number, volume in enumerate(_measured(book)):
        names.append(f"etching-{number:02d}.mrc")
        write_volume(book.bench.folder / names[-1], volume, _VOXEL)
    s = book.sizes
    more = ("--shift", 0, "--no-ctf")
    film = Film(book, "etching", replace(s, frames=len(names))).simulate("constant", tuple(names), more)
    compared(book, film, f"Dissolving nanoparticle, SNR {s.snr:g}, {s.movies} × {len(names)} frames", {})
    book.notes.append(
        f"{len(names)} maps of one particle, tomograms in a liquid cell that were made binary by their authors, each a "
        f"frame's truth; no CTF; a voxel is taken to be {_VOXEL:g} Å, which the files do not say."
    )


def _measured(book: Notebook) -> list[Tensor]:
    """Maps (D, D, D) of the series in its order, padded to cubes, from 0 to 1."""
    maps = []
    with tarfile.open(book.data(_SERIES)) as archive:
        for name in sorted(archive.getnames()):
            file = archive.extractfile(name) if name.endswith(".tif") else None
            if file is not None:
                pages = ImageSequence.Iterator(Image.open(BytesIO(file.read())))
                maps.append(_cube(torch.from_numpy(np.stack([np.asarray(page) for page in pages])) / 255.0))
    return maps


def _cube(volume: Tensor) -> Tensor:
    box = max(volume.shape) + max(volume.shape) % 2
    missing = [(left := (box - n) // 2, box - n - left) for n in reversed(volume.shape)]
    return pad(volume, [side for pair in missing for side in pair])


_TINY: dict[str, Any] = {"frames": 4, "width": 16, "blocks": 1, "first": 1, "passes": 1, "band": 11.0, "every": 6}
_QUICK = MapSizes(box=24, pixel=5.0, spans=(81.0,), counts=(4, 6), snrs=(1.0,), **_TINY)
_PAPER = MapSizes(**PAPER)
_SERIES_SIZES: dict[str, Any] = {"b_factor": 0, "span": 17.0, "unit": " frames", "every": 5}

MAP = Table(
    name="tempor-map",
    title="TEMPOR: where it gains",
    about="What frames gain from their movie, by the size of the motion, the noise and the number of movies.",
    parts={"gains": gains},
    scales={"mini": MapSizes(snrs=(0.1, 1.0)), "paper": _PAPER, "quick": _QUICK},
)
LIQUID = Table(
    name="tempor-liquid",
    title="TEMPOR: a nanoparticle that dissolves",
    about="Movies simulated from a measured series of volumes: what liquid-cell microscopy is used for.",
    parts={"etching": etching},
    scales={
        "mini": Sizes(movies=60, box=40, pixel=20.0, band=19.0, **_SERIES_SIZES),
        "paper": replace(_PAPER, pixel=6.0, **_SERIES_SIZES),
        "quick": replace(_QUICK, movies=3, box=24, pixel=33.0, **_SERIES_SIZES),
    },
)
