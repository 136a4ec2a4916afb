"""What a batch of images says about any pose: the sufficient statistics of the Gaussian likelihood."""

from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.physics.fourier import FrequencyLattice, shift_phases


class Evidence(NamedTuple):
    """Images of B particles as the likelihood needs them, on the P coefficients of `lattice`.

    log p(y | R, t) = Σ_k 2 Re⟨e^{2πi k·t/D} weighted, T⟩ − power |T|², plus a constant of the image, for a template
    T = V̂(Rᵀk): the CTF is moved onto the image, so that templates are shared by all images.

    weighted = C y / σ² (B, P) complex; power = C² / σ² (B, P); image_power = |y|² / σ² (B, P).
    """

    weighted: Tensor
    power: Tensor
    image_power: Tensor
    lattice: FrequencyLattice

    @classmethod
    def of_images(cls, spectrum: Tensor, ctf: Tensor, noise: Tensor, lattice: FrequencyLattice) -> "Evidence":
        """Evidence of spectra (B, P) with CTF values (B, P) and noise power per coefficient, `noise` (P,)."""
        return cls(spectrum * ctf / noise, ctf**2 / noise, spectrum.abs() ** 2 / noise, lattice)

    def __len__(self) -> int:
        return len(self.weighted)

    def select(self, index: Tensor | slice) -> "Evidence":
        """The evidence of some of the particles."""
        return Evidence(self.weighted[index], self.power[index], self.image_power[index], self.lattice)

    def prefix(self, band: float) -> "Evidence":
        """The same up to a lower band."""
        n = self.lattice.count(band)
        parts = (self.weighted[:, :n], self.power[:, :n], self.image_power[:, :n])
        return Evidence(*parts, self.lattice.prefix(band))

    def thinned(self, kept: Tensor, weight: Tensor) -> "Evidence":
        """The coefficients `kept` (Q,), each counting `weight` (Q,) times."""
        weighted, power, image_power = (part[:, kept] * weight for part in self[:3])
        return Evidence(weighted, power, image_power, self.lattice.select(kept))

    def centred(self, shift_px: Tensor) -> Tensor:
        """`weighted` moved back by shifts (B, …, 2) in pixels: (B, …, P)."""
        phases = shift_phases(self.lattice.k, -shift_px, self.lattice.box)
        extra = phases.dim() - 2
        return self.weighted.view(len(self), *(1,) * extra, -1) * phases


def real_pairs(spectrum: Tensor) -> Tensor:
    """Complex (…, P) as real (…, 2P), so that Re⟨a, b⟩ is a dot product."""
    return torch.view_as_real(spectrum.resolve_conj()).flatten(-2)
