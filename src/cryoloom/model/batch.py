"""What a gradient step sees of some particles: which they are, their spectra, and what those say about any pose."""

from typing import NamedTuple

from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.fourier import FrequencyLattice


class Batch(NamedTuple):
    """B particles. index: (B,) rows of the particle set; spectrum: (B, P) of normalised images; evidence: of the same.

    All on the P coefficients of the evidence's lattice, which ends at the band in use. features: (B, V, F) of V views
    of each image, where an encoder has read them.
    """

    index: Tensor
    spectrum: Tensor
    evidence: Evidence
    features: Tensor | None = None

    @property
    def lattice(self) -> FrequencyLattice:
        """The frequencies of the P coefficients."""
        return self.evidence.lattice

    def read(self, features: Tensor) -> "Batch":
        """The same with the features (B, V, F) that an encoder has read."""
        return Batch(self.index, self.spectrum, self.evidence, features)

    def thinned(self, kept: Tensor, weight: Tensor) -> "Batch":
        """The same on the coefficients `kept` (Q,) alone, each counting `weight` (Q,) times."""
        return Batch(self.index, self.spectrum[:, kept], self.evidence.thinned(kept, weight), self.features)

    def __len__(self) -> int:
        return len(self.spectrum)
