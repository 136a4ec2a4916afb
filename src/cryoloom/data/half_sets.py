"""Half-sets that share no particle: whatever shows the same molecule at the same moment goes into one half."""

import os
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch import Tensor

from cryoloom.data.findings import Finding
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError

# Particles whose centres are closer than this on one micrograph, and than a quarter of the box, are one picked twice.
_SAME_PARTICLE_ANGST = 30.0
_SAME_PARTICLE_BOX = 0.25
# Coordinates that so large a part of the particles share were written to fill a column.
_PLACEHOLDER = 0.5
_NONE = np.zeros((0, 2), dtype=np.int64)
_HALVES = {1: "in 1", 2: "in 2", 0: "in none"}


class Repeats(NamedTuple):
    """Pairs (M, 2) of rows that list one image, and of images of one particle; group (N,), the first row of each one's.

    A group must share a half-set: a movie, an image that is listed more than once, the copies of a symmetry expansion,
    or a particle that was picked twice.
    """

    images: np.ndarray
    picked: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, particles: Particles) -> "Repeats":
        """The repeats in a set of particles."""
        image = _image_numbers(particles)
        same_image, original = _first_of_each(image), particles.column("original")
        pairs = [same_image, _first_of_each(original) if original.any() else _NONE]
        if particles.has_movies:
            pairs.append(_first_of_each(particles.table["movie_id"].cat.codes.to_numpy()))
        certain = _joined(np.concatenate(pairs), len(particles))
        near = _near_pairs(particles)
        picked = near[certain[near[:, 0]] != certain[near[:, 1]]]
        return cls(same_image, picked, _joined(np.concatenate([*pairs, picked]), len(particles)))


def half_sets(particles: Particles, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of two halves: the file's own if every particle has one, else a seeded split; both keep groups whole.

    Where the file's own halves divide a group, all of it goes where its first row is. Raises InputError where all
    particles are one group.
    """
    group = Repeats.of(particles).group
    if has_own_halves(particles):
        first = torch.from_numpy(particles.column("half_set")[group] == 1)
    else:
        names, member = np.unique(group, return_inverse=True)
        shuffled = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        first = (shuffled < (len(names) + 1) // 2)[torch.from_numpy(member)]
    if bool(first.all()) or not bool(first.any()):
        raise InputError(
            f"{particles.source}: its {len(particles)} particles cannot be split into two half-sets that share none, "
            "as all show one particle or movie: give more particles."
        )
    return torch.nonzero(first)[:, 0], torch.nonzero(~first)[:, 0]


def half_set_findings(particles: Particles) -> list[Finding]:
    """What is worth saying of repeated particles and of the file's own half-sets."""
    found, given, repeats = [], particles.column("half_set"), Repeats.of(particles)
    if len(repeats.images):
        text = f"{len(repeats.images):,} images are listed more than once: rows of one go into one half-set"
        found.append(Finding(text, False))
    if len(repeats.picked):
        text = f"{len(repeats.picked):,} pairs of particles lie within {_same_particle(particles):.0f} Å of each other"
        found.append(Finding(f"{text} on a micrograph, like one picked twice: both go into one half-set", False))
    if has_own_halves(particles):
        moved = int((given != given[repeats.group]).sum())
        if moved:
            text = f"the file's half-sets share particles: {moved:,} rows go to the half-set of the first row of each"
            found.append(Finding(text, True, "shared-half-sets", "Split the particles anew, or remove repeated ones."))
    elif given.any():
        counts = ", ".join(f"{int((given == half).sum()):,} particles {name}" for half, name in _HALVES.items())
        found.append(Finding(f"the file's half-sets are not complete ({counts}): they are split anew", False))
    return found


def has_own_halves(particles: Particles) -> bool:
    """Whether the file puts every particle into half-set 1 or 2, and uses both."""
    return set(np.unique(particles.column("half_set"))) == {1, 2}


def _image_numbers(particles: Particles) -> np.ndarray:
    """A number (N,) for each image, equal only for the same image of the same file, whatever its names."""
    stacks: Any = particles.table["image_file"].cat
    real = [os.path.realpath(name) for name in stacks.categories]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(real))}
    number = np.array([numbers[name] for name in real], dtype=np.int64)
    return number[stacks.codes.to_numpy()] * 2**32 + particles.column("image_index")


def _first_of_each(key: np.ndarray) -> np.ndarray:
    """Pairs (M, 2) of rows: each row that repeats a key, with the first that has it."""
    code = np.unique(key, return_inverse=True)[1]
    rows = np.arange(len(code))
    # Written from the back, the first row of each key stays.
    first = np.empty(len(code), dtype=np.int64)
    first[code[::-1]] = rows[::-1]
    again = first[code] != rows
    return np.stack([first[code][again], rows[again]], 1)


def _joined(pairs: np.ndarray, n: int) -> np.ndarray:
    """The first row (n,) of the group of each row, where `pairs` (M, 2) of rows are in one group."""
    if not len(pairs):
        return np.arange(n)
    graph = coo_matrix((np.ones(len(pairs), dtype=bool), pairs.T), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    first = np.empty(n, dtype=np.int64)
    first[label[::-1]] = np.arange(n)[::-1]
    return first[label]


def _same_particle(particles: Particles) -> float:
    return min(_SAME_PARTICLE_ANGST, _SAME_PARTICLE_BOX * particles.source_box * particles.source_pixel_size)


def _near_pairs(particles: Particles) -> np.ndarray:
    """Pairs (M, 2) of rows whose centres on one micrograph are too close to be two particles.

    Without coordinates or micrograph names there is none.
    """
    place = np.stack([particles.column("coordinate_x"), particles.column("coordinate_y")], 1).astype(np.float64)
    if np.isnan(place[:, 0]).all():
        return _NONE
    micrograph: Any = particles.table["micrograph_name"].cat
    code = micrograph.codes.to_numpy()
    named = np.asarray(micrograph.categories.astype(str)) != ""
    known = np.flatnonzero(np.isfinite(place).all(1) & named[code])
    near = _same_particle(particles)
    if len(known) < 2 or near <= 0:
        return _NONE
    # A third coordinate keeps the micrographs apart.
    at = np.column_stack([place[known], code[known] * 10.0 * near])
    equal = _first_of_each(_codes(at))
    if len(equal) and np.bincount(equal[:, 0]).max() + 1 > _PLACEHOLDER * len(known):
        return _NONE
    alone = np.ones(len(known), dtype=bool)
    alone[equal[:, 1]] = False
    alone = np.flatnonzero(alone)
    near_by = alone[KDTree(at[alone]).query_pairs(near, output_type="ndarray")]
    return known[np.concatenate([equal, near_by])]


def _codes(places: np.ndarray) -> np.ndarray:
    """A number (N,) for each of `places` (N, 3), equal for equal ones."""
    code = np.zeros(len(places), dtype=np.int64)
    for column in places.T:
        values, part = np.unique(column, return_inverse=True)
        code = code * len(values) + part
    return code
