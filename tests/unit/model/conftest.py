"""Images of a small volume at known poses, as evidence, with and without noise."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.templates import Templates
from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import random_rotations

BAND = 12


class Planted(NamedTuple):
    """Spectra (B, P) = C · phase · slice + noise at known rotations (B, 3, 3) and shifts (B, 2) px."""

    projector: FourierSlice
    lattice: FrequencyLattice
    spectrum: Tensor
    ctf: Tensor
    noise: Tensor
    rotation: Tensor
    shift: Tensor

    @property
    def evidence(self) -> Evidence:
        return Evidence.of_images(self.spectrum, self.ctf, self.noise, self.lattice)

    def score(self, i: int, rotation: Tensor, shift: Tensor) -> float:
        """Log-likelihood of image `i` at a pose, written out: −Σ|y − C·phase·T|²/σ² + Σ|y|²/σ²."""
        template = self.projector.project(rotation[None], self.lattice)[0]
        model = self.ctf[i] * shift_phases(self.lattice.k, shift[None], self.lattice.box)[0] * template
        y = self.spectrum[i]
        return float((((y.abs() ** 2) - (y - model).abs() ** 2) / self.noise).double().sum())


@pytest.fixture(scope="session")
def plant(blobs):
    """Build `Planted` images of the blobs at `rotation` (B, 3, 3), or at random ones."""
    lattice = FrequencyLattice.of_box(32).prefix(BAND)
    projector = FourierSlice.of_volume(blobs)

    def build(
        n: int, snr: float, rotation: Tensor | None = None, shift: Tensor | None = None, seed: int = 3
    ) -> Planted:
        generator = torch.Generator().manual_seed(seed)
        rotation = random_rotations(n, generator) if rotation is None else rotation
        shift = 2 * torch.randn(n, 2, generator=generator) if shift is None else shift
        # Zero crossings at different radii, as defocus makes them.
        phase = lattice.radius**2 * (0.02 + 0.03 * torch.rand(n, 1, generator=generator)) + 0.1
        clean = -torch.sin(phase) * shift_phases(lattice.k, shift, 32) * projector.project(rotation, lattice)
        power = clean.abs().square().mean() / snr * (1 + 2 * torch.exp(-lattice.radius / 4))
        draw = torch.randn(n, len(lattice), generator=generator, dtype=torch.complex64)
        noisy = clean + draw * power.sqrt() if snr < 1e3 else clean
        return Planted(projector, lattice, noisy, -torch.sin(phase), power, rotation, shift)

    return build


@pytest.fixture
def few(plant):
    """Images, templates at 20 rotations, 5 shifts and their log-prior; scores (B, S, G) written out."""
    images = plant(6, snr=0.02)
    generator = torch.Generator().manual_seed(9)
    rotations = random_rotations(20, generator)
    rotations[:6] = images.rotation
    shifts = torch.cat([torch.zeros(1, 2), 2 * torch.randn(4, 2, generator=generator)])
    log_prior = -0.1 * shifts.square().sum(1)
    templates = Templates.render(images.projector, rotations, images.lattice)
    scores = [[[images.score(i, r, t) for r in rotations] for t in shifts] for i in range(6)]
    return images, templates, shifts, log_prior, torch.tensor(scores) + log_prior[:, None]
