"""What a network that reads poses says of the field's own projections, whose poses are known."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from cryoloom.model.batch import Batch
from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.model import Model

# In each direction, of the limit: a square that lies inside the circle of all shifts.
_WITHIN = 2**-0.5


class Rehearsed(NamedTuple):
    """Poses of B projections: rotation (B, 3, 3), shift (B, 2) in parts of the limit, and noise (B, P) of power 1."""

    rotation: Tensor
    shift: Tensor
    noise: Tensor

    @classmethod
    def drawn(cls, n: int, coefficients: int, generator: Generator) -> "Rehearsed":
        """Poses spread evenly."""
        shift = _WITHIN * (2 * torch.rand(n, 2, generator=generator) - 1)
        noise = torch.randn(n, coefficients, dtype=torch.complex64, generator=generator)
        return cls(random_rotations(n, generator), shift, noise)

    def select(self, index: Tensor, device: torch.device) -> "Rehearsed":
        """Those at `index`, on a device."""
        return Rehearsed(*(part[index].to(device) for part in self))


def rehearse(
    model: Model, index: Tensor, lattice: FrequencyLattice, slices: Tensor, noise: Tensor, drawn: Rehearsed
) -> Tensor:
    """P · min_k(‖R − R̂_k‖²_F + |t − t̂_k|² in px²) of each projection (B,), slices (B, P) at the drawn rotations.

    They get the CTFs of the particles `index` (B,) and noise of a power (D/2,) by shell, and take part in no other
    loss: what made them has no gradient.
    """
    pixel_size = model.images.pixel_size
    shift = drawn.shift * model.poses.shift_limit
    with torch.no_grad():
        moved = slices * shift_phases(lattice.k, shift / pixel_size, lattice.box)
        power = lattice.from_shells(noise.to(lattice.k))
        ctf = model.images.ctf(index, lattice)
        images = moved * ctf
        # What is left unexplained of images without noise is what the volume lacks.
        images = images if model.images.clean else images + drawn.noise * power.sqrt()
        # The mean grey value of an image is not known either.
        images[:, 0] = 0
        seen = Batch(index, images, Evidence.of_images(images, ctf, power, lattice))
    said = model.poses(seen.read(model.features(seen)))
    turned = (said.rotation - drawn.rotation[:, None]).square().sum((-2, -1))
    off = ((said.shift - shift[:, None]) / pixel_size).square().sum(-1)
    return len(lattice) * (turned + off).min(1).values
