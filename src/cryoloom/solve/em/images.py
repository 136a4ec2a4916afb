"""Particles as the E-step sees them: normalised spectra and CTFs of a batch, read when asked for."""

import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.data.preprocess import normalise
from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.formation import lattice_ctf
from cryoloom.physics.fourier import FrequencyLattice

BACKGROUND_RADIUS = 0.45


class WorkingImages:
    """Spectra of a particle set on the frequency lattice of its working box, one batch at a time."""

    def __init__(self, particles: Particles, device: torch.device | str = "cpu"):
        self.particles = particles
        self.device = torch.device(device)
        self.box = particles.box
        self.pixel_size = particles.pixel_size
        self.lattice = FrequencyLattice.of_box(self.box, self.device)

    def __len__(self) -> int:
        return len(self.particles)

    def spectrum(self, index: Tensor) -> Tensor:
        """Spectra (B, P) of images normalised to background mean 0 and standard deviation 1."""
        images = self.particles.images(index).to(self.device)
        return self.lattice.spectrum(normalise(images, BACKGROUND_RADIUS * self.box))

    def ctf(self, index: Tensor, lattice: FrequencyLattice) -> Tensor:
        """CTF values (B, P) on `lattice`; ones where the particles have none."""
        parameters = self.particles.ctf(index).to(self.device) if self.particles.has_ctf else None
        return lattice_ctf(parameters, len(index), lattice, self.pixel_size)

    def evidence(self, index: Tensor, noise: Tensor, band: float) -> Evidence:
        """Evidence of the particles at `index` up to `band`, for a noise power per coefficient by shell, (D/2,)."""
        lattice = self.lattice.prefix(band)
        spectrum = self.spectrum(index)[:, : len(lattice)]
        # The mean grey value says nothing after normalisation.
        spectrum[:, 0] = 0
        return Evidence.of_images(spectrum, self.ctf(index, lattice), lattice.from_shells(noise), lattice)

    def mean_power(self, index: Tensor) -> Tensor:
        """Mean power per coefficient, (D/2,) by shell, of some images: signal and noise together."""
        return self.lattice.shell_mean(self.spectrum(index).abs().square().mean(0)).clamp(min=1e-12)

    def chunks(self, index: Tensor, size: int = 512) -> list[Tensor]:
        """The indices in pieces small enough to hold in memory."""
        return list(index.split(size))
