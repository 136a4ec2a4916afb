"""Movies: which particles are frames of one molecule, and in which order they were taken."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError

# Where a file has no cryoloomMovieId, the first of these that tells particles apart names their movies.
_GROUPS = (("rlnTomoName", "rlnTomoName"), ("micrograph_name", "rlnMicrographName"), ("image_file", "image stacks"))


def with_movies(particles: Particles) -> Particles:
    """The same particles with a movie and a frame each, so that `Particles.movies` knows them.

    Movies: the file's cryoloomMovieId, else particles of one rlnTomoName, rlnMicrographName or image stack. Frames: the
    file's cryoloomFrame, in any order and with gaps, else the order of the images in their stack.
    Raises InputError where nothing groups the particles, one belongs nowhere, or a movie has a frame twice.
    """
    names = _names(particles)
    frame = particles.column("frame").astype(np.int64)
    if not frame.any():
        frame = _order_in_stack(particles, names)
    seen = pd.MultiIndex.from_arrays([names, frame])
    if seen.has_duplicates:
        row = int(np.flatnonzero(seen.duplicated())[0])
        raise InputError(
            f"{_place(particles, row)}: movie {names[row]} has frame {frame[row]} twice; "
            "expected each frame of a movie once: mend cryoloomFrame, or remove the copy."
        )
    return particles.with_columns(movie_id=names, frame=frame)


def movie_numbers(particles: Particles) -> tuple[Tensor, Tensor]:
    """Number (N,) of each particle's movie, from 0, and its frame (N,); raises InputError where there are none."""
    particles.movies()
    names = np.asarray(particles.table["movie_id"], dtype=object)
    number = np.unique(names, return_inverse=True)[1]
    return torch.from_numpy(number.astype(np.int64)), torch.from_numpy(particles.column("frame").astype(np.int64))


def _names(particles: Particles) -> np.ndarray:
    given = np.asarray(particles.table["movie_id"], dtype=object)
    missing = np.flatnonzero(given == "")
    if not len(missing):
        return given
    if len(missing) < len(given):
        raise InputError(
            f"{_place(particles, int(missing[0]))}: no cryoloomMovieId, but other particles have one; "
            "expected one for each: add it or remove the row."
        )
    for column, _ in _GROUPS:
        if column not in particles.table:
            continue
        names = np.asarray(particles.table[column], dtype=object).astype(str)
        if (names != "").all() and len(np.unique(names)) > 1:
            return names
    listed = ", ".join(label for _, label in _GROUPS)
    raise InputError(
        f"{particles.source} does not say which particles form a movie: expected cryoloomMovieId (and cryoloomFrame), "
        f"or a difference in {listed}; add the column, or give a .txt list with one stack a movie."
    )


def _order_in_stack(particles: Particles, names: np.ndarray) -> np.ndarray:
    stack = particles.table["image_file"].cat.codes.to_numpy()
    order = np.lexsort((particles.column("image_index"), stack, names))
    _, first, count = np.unique(names[order], return_index=True, return_counts=True)
    frame = np.empty(len(names), dtype=np.int64)
    frame[order] = np.arange(len(names)) - np.repeat(first, count)
    return frame


def _place(particles: Particles, row: int) -> str:
    return f"{particles.source}, row {int(particles.column('source_row')[row]) + 1}"
