"""Conformations as a table, one row a particle, that follow the gradient: an auto-decoder."""

import torch
from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.latent import ConformationModel, Latent

# Narrow enough at the start that a field can tell particles apart from their first pass on.
_FIRST_LOG_VAR = -3.0
_FIRST_SPREAD = 0.3


class ConformationTable(ConformationModel):
    """Mean and log variance (N, Z) of z of N particles. A step moves only the particles of its batch."""

    def __init__(self, particles: int, z_dim: int, generator: torch.Generator):
        super().__init__()
        self.z_dim = z_dim
        rows = torch.full((particles, 2 * z_dim), _FIRST_LOG_VAR)
        rows[:, :z_dim] = _FIRST_SPREAD * torch.randn(particles, z_dim, generator=generator)
        self.rows = nn.Embedding(particles, 2 * z_dim, sparse=True, _weight=rows)

    def forward(self, batch: Batch, noise: Tensor) -> Latent:
        """The latent of a batch."""
        mean, log_var = self.rows(batch.index.to(self.rows.weight.device)).chunk(2, -1)
        return Latent.drawn(mean, log_var, noise)
