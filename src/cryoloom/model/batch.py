"""What a gradient step sees of some particles: which they are, their spectra, and what those say about any pose."""

from typing import NamedTuple

from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.fourier import FrequencyLattice


class Batch(NamedTuple):
    """B particles. index: (B,) rows of the particle set; spectrum: (B, P) of normalised images; evidence: of the same.

    All on the P coefficients of the evidence's lattice, which ends at the band in use.
    """

    index: Tensor
    spectrum: Tensor
    evidence: Evidence

    @property
    def lattice(self) -> FrequencyLattice:
        """The frequencies of the P coefficients."""
        return self.evidence.lattice

    def __len__(self) -> int:
        return len(self.spectrum)
