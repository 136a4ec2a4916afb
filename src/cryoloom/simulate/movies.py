"""Movies of one molecule each: how its conformation, orientation and place change from frame to frame, and fade."""

import math

import torch
from torch import Tensor

from cryoloom.physics.so3 import matrix_from_rotvec
from cryoloom.simulate.settings import Motion

_FLUCTUATION = 0.25
_B_PER_DOSE = 4.0


def coordinate_paths(motion: Motion, movies: int, frames: int, generator: torch.Generator) -> Tensor:
    """Coordinates (M, T) in [0, 1] of the conformation.

    constant: from 0 to 1 at constant speed, the same in every movie. reversing: there and back at that speed, each
    movie starting at a random place. fluctuating: an Ornstein–Uhlenbeck process about 1/2 of standard deviation 1/4
    and relaxation time T/3, reflected at 0 and 1.
    """
    time = torch.arange(frames) / max(frames - 1, 1)
    if motion == "constant":
        return time.expand(movies, frames).clone()
    if motion == "reversing":
        return _reflected(2 * torch.rand(movies, 1, generator=generator) + time)
    keep = math.exp(-3 / frames)
    kicks = torch.randn(movies, frames, generator=generator)
    x = [kicks[:, 0]]
    for t in range(1, frames):
        x.append(keep * x[-1] + math.sqrt(1 - keep**2) * kicks[:, t])
    return _reflected(0.5 + _FLUCTUATION * torch.stack(x, 1))


def _reflected(x: Tensor) -> Tensor:
    folded = x.remainder(2)
    return torch.minimum(folded, 2 - folded)


def tumbling(first: Tensor, frames: int, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotations (M, T, 3, 3) diffusing from `first` (M, 3, 3): R_{t+1} = exp(v) R_t, isotropic v of rms `degrees`."""
    rotations = [first]
    for _ in range(frames - 1):
        step = torch.randn(len(first), 3, generator=generator) * (math.radians(degrees) / math.sqrt(3))
        rotations.append(matrix_from_rotvec(step) @ rotations[-1])
    return torch.stack(rotations, 1)


def drifting(first: Tensor, frames: int, step: float, generator: torch.Generator) -> Tensor:
    """Shifts (M, T, 2) moving straight on from `first` (M, 2) by `step` a frame, each movie its own way."""
    angle = 2 * math.pi * torch.rand(len(first), generator=generator)
    velocity = step * torch.stack([angle.cos(), angle.sin()], -1)
    return first[:, None] + torch.arange(frames)[:, None] * velocity[:, None]


def dose_b_factors(movies: int, frames: int, dose: float) -> Tensor:
    """B-factors (M · T,) in Å² of what the dose before each frame, in e⁻/Å², left: B = 4 Å² per e⁻/Å².

    The falloff that RELION takes for tilt series (Bharat et al. 2015).
    """
    return (_B_PER_DOSE * dose * torch.arange(frames, dtype=torch.float32)).repeat(movies)
