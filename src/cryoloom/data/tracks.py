"""From a movie of a field of view and the tracks of its particles to particle images: a movie of each, centred."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cryoloom.data.assemble import Found, assemble
from cryoloom.data.files import existing, reading
from cryoloom.data.mrc import Stack, read_stack, write_stack
from cryoloom.data.star_out import write_star
from cryoloom.errors import InputError

# Names of trackpy, TrackMate and hand-written tables, lower case.
_NAMES = {
    "particle": ("particle", "track_id", "track", "id"),
    "x": ("x", "position_x"),
    "y": ("y", "position_y"),
    "frame": ("frame", "position_t", "t"),
}


class Tracks(NamedTuple):
    """Of R sightings: particle (R,), frame (R,) from 0, and x, y (R,) in pixels from the centre of the first one."""

    particle: np.ndarray
    frame: np.ndarray
    x: np.ndarray
    y: np.ndarray


def read_tracks(path: Path) -> Tracks:
    """A table of tracks (CSV, or tabs) with a line of names, as trackpy or TrackMate write it.

    Raises InputError, naming file, column and row, for what is missing, no number, or there twice.
    """
    path = existing(path, "track table")
    with reading(path, "table of tracks", "expected CSV with a line of names"):
        table = pd.read_csv(path, sep=None, engine="python")
    table.columns = [str(name).strip().lower() for name in table.columns]
    columns = {}
    for column, names in _NAMES.items():
        name = next((name for name in names if name in table), None)
        if name is None:
            raise InputError(f"{path} has no column {column}: expected particle, x, y and frame (as trackpy writes).")
        values = np.asarray(pd.to_numeric(table[name], errors="coerce"), dtype=float)
        # TrackMate explains its columns in three lines below their names.
        columns[column] = values[3:] if "track_id" in table else values
    found = np.stack(list(columns.values()))
    bad = np.flatnonzero(~np.isfinite(found).all(0))
    if len(bad) or not found.size:
        where = f", row {bad[0] + 2}" if len(bad) else ""
        raise InputError(f"{path}{where}: particle, x, y and frame must be numbers, in at least one row: mend it.")
    particle, frame = (columns[name].astype(int) for name in ("particle", "frame"))
    tracks = Tracks(particle, frame, columns["x"], columns["y"])
    twice = pd.Series(list(zip(tracks.particle, tracks.frame, strict=True))).duplicated()
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        particle, frame = tracks.particle[row], tracks.frame[row]
        raise InputError(f"{path}, row {row + 2}: particle {particle} is in frame {frame} twice; expected one place.")
    return tracks


def crop_movie(movie: Path, tracks: Path, output: Path, box: int, pixel_size: float | None = None) -> tuple[int, int]:
    """Write OUTPUT/particles.mrcs and particles.star: a box around each sighting, the track's place at its centre.

    What moves the particle in the field, drift and diffusion, is thereby gone, to fractions of a pixel. Sightings whose
    box would leave the field are left out. Returns how many images were written and how many left out.
    Raises InputError for tables, movies and boxes that do not fit each other.
    """
    stack, found = read_stack(movie), read_tracks(tracks)
    frames, height, width = stack.shape
    pixel = pixel_size or stack.pixel_size[0]
    if not pixel > 0:
        raise InputError(f"{movie} gives no pixel size in Å: add --pixel-size.")
    if box < 2 or box % 2 or box > min(height, width):
        raise InputError(f"box {box} does not fit frames of {width}x{height} pixels: expected an even, smaller number.")
    if found.frame.min() < 0 or found.frame.max() >= frames:
        raise InputError(
            f"{tracks} has frames {found.frame.min()} to {found.frame.max()}, {movie} has 0 to {frames - 1}: "
            "count frames from 0, or give the movie that was tracked."
        )
    column, row = np.round(found.x).astype(int) - box // 2, np.round(found.y).astype(int) - box // 2
    inside = (column >= 0) & (row >= 0) & (column + box <= width) & (row + box <= height)
    kept = np.flatnonzero(inside)
    kept = kept[np.lexsort((found.frame[kept], found.particle[kept]))]
    if not len(kept):
        raise InputError(f"no box of {box} pixels around a track of {tracks} lies inside {movie}: take a smaller box.")
    output.mkdir(parents=True, exist_ok=True)
    star, images = output / "particles.star", output / "particles.mrcs"
    star.unlink(missing_ok=True)
    places = Tracks(*(values[kept] for values in found))
    write_stack(images, _crops(stack, places, column[kept], row[kept], box), len(kept), box, pixel)
    names = np.array([f"{Path(movie).stem}_{number}" for number in places.particle], dtype=object)
    columns = {
        "image_file": pd.Categorical.from_codes(np.zeros(len(kept), dtype=int), categories=[str(images.absolute())]),
        "image_index": np.arange(len(kept)),
        "movie_id": names,
        "frame": places.frame,
    }
    write_star(star, assemble(Found(star, len(kept), columns, box=box, pixel_size=pixel)))
    return len(kept), int((~inside).sum())


def _crops(stack: Stack, places: Tracks, column: np.ndarray, row: np.ndarray, box: int) -> Iterator[Tensor]:
    for i, frame in enumerate(places.frame):
        cut = stack.read([int(frame)])[0, row[i] : row[i] + box, column[i] : column[i] + box]
        rest = places.x[i] - column[i] - box // 2, places.y[i] - row[i] - box // 2
        yield moved(torch.from_numpy(np.ascontiguousarray(cut)), -rest[0], -rest[1])[None]


def moved(image: Tensor, x: float, y: float) -> Tensor:
    """An image (D, D) moved by fractions of a pixel, periodically: times exp(−2πi k·t) in Fourier space."""
    k = torch.fft.fftfreq(image.shape[-1], dtype=torch.float64)
    phase = torch.exp(-2j * torch.pi * (k[:, None] * y + k * x))
    return torch.fft.ifft2(torch.fft.fft2(image.double()) * phase).real.float()
