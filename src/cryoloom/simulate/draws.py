"""What each particle is given: orientation, shift, CTF, conformation, and its place in a movie; all from one seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoloom.data.cryodrgn import read_ctf_pickle
from cryoloom.data.read import read_particles
from cryoloom.errors import InputError
from cryoloom.physics.ctf import CTFParameters
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.movies import coordinate_paths, dose_b_factors, drifting, tumbling
from cryoloom.simulate.settings import Simulation

# Each kind of draw has a stream of its own: another SNR or shift leaves the orientations as they were.
STREAMS = ("orientation", "shift", "ctf", "conformation", "noise")


def generators(seed: int) -> dict[str, torch.Generator]:
    """One independent generator for each name in STREAMS, all from `seed`."""
    states = np.random.SeedSequence(seed).generate_state(len(STREAMS), np.uint64)
    return {name: torch.Generator().manual_seed(int(state >> 1)) for name, state in zip(STREAMS, states, strict=True)}


JUNK = -1


@dataclass(frozen=True)
class Draws:
    """Truth of N particles: pose, CTF (None for none), conformation (N,), and movie and frame (N,), from 0, or None.

    An image of conformation JUNK holds no particle.
    """

    pose: Pose
    ctf: CTFParameters | None
    conformation: Tensor
    movie: Tensor | None = None
    frame: Tensor | None = None


def draw(settings: Simulation, conformations: Conformations, streams: dict[str, torch.Generator]) -> Draws:
    """Draw the truth of every particle; raises InputError for measured distributions that cannot be used."""
    shift = settings.pixel_size * _shifts(settings, streams["shift"])
    pose = Pose.single(_orientations(settings, streams["orientation"]), shift)
    conformation = _conformation(settings, conformations, streams["conformation"])
    movie = frame = None
    if settings.movies is not None and settings.frames is not None:
        movie = torch.arange(settings.movies).repeat_interleave(settings.frames)
        frame = torch.arange(settings.frames).repeat(settings.movies)
    return Draws(pose, _ctf(settings, streams["ctf"]) if settings.ctf else None, conformation, movie, frame)


def _orientations(settings: Simulation, stream: torch.Generator) -> Tensor:
    count = settings.n if settings.tumbling is None else (settings.movies or 0)
    if settings.orientations is None:
        first = random_rotations(count, stream)
    else:
        measured = read_particles(settings.orientations)
        if not measured.has_poses:
            raise InputError(f"{settings.orientations} has no orientations to draw from: give a STAR file with angles.")
        rotations = measured.poses().best_rotation
        first = rotations[torch.randint(len(rotations), (count,), generator=stream)]
    if settings.tumbling is None or settings.frames is None:
        return first
    return tumbling(first, settings.frames, settings.tumbling, stream).flatten(0, 1)


def _shifts(settings: Simulation, stream: torch.Generator) -> Tensor:
    """Shifts (N, 2) in pixels."""
    count = settings.n if settings.drift is None else (settings.movies or 0)
    first = (2 * torch.rand(count, 2, generator=stream) - 1) * settings.shift
    if settings.drift is None or settings.frames is None:
        return first
    return drifting(first, settings.frames, settings.drift, stream).flatten(0, 1)


def _conformation(settings: Simulation, conformations: Conformations, stream: torch.Generator) -> Tensor:
    k = len(conformations)
    if settings.movies is not None and settings.frames is not None:
        path = coordinate_paths(settings.motion, settings.movies, settings.frames, stream)
        return (path * (k - 1)).round().long().flatten()
    weights = torch.ones(k) if settings.weights is None else torch.tensor(settings.weights)
    if len(weights) != k or not bool((weights >= 0).all()) or float(weights.sum()) <= 0:
        raise InputError(f"weights are {settings.weights}: expected {k} numbers, one for each conformation, 0 or more.")
    drawn = torch.multinomial(weights, settings.n, replacement=True, generator=stream)
    if settings.junk:
        drawn[torch.rand(settings.n, generator=stream) < settings.junk] = JUNK
    return drawn


def _ctf(settings: Simulation, stream: torch.Generator) -> CTFParameters:
    n = settings.n
    if settings.ctf_from is None:
        low, high = (1e4 * value for value in settings.defocus)
        u = low + (high - low) * torch.rand(n, generator=stream)
        v, angle = u, torch.zeros(n)
    else:
        u, v, angle = _measured_defocus(settings.ctf_from)
        row = torch.randint(len(u), (n,), generator=stream)
        u, v, angle = u[row], v[row], angle[row]
    constant = (settings.voltage, settings.cs, settings.amplitude_contrast, 0.0)
    voltage, cs, contrast, phase = (torch.full((n,), value) for value in constant)
    faded = settings.b_factor + dose_b_factors(settings.movies or n, settings.frames or 1, settings.dose)
    return CTFParameters(u, v, angle, voltage, cs, contrast, phase, faded)


def _measured_defocus(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    if path.suffix == ".pkl":
        table = read_ctf_pickle(path)
        u, v, angle = (np.asarray(table[name]) for name in ("defocus_u", "defocus_v", "defocus_angle"))
    else:
        measured = read_particles(path).ctf()
        u, v, angle = measured.defocus_u.numpy(), measured.defocus_v.numpy(), measured.defocus_angle.numpy()
    as_float = [torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)) for value in (u, v, angle)]
    return as_float[0], as_float[1], as_float[2]
