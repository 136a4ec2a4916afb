"""Deformation features: a point for every image instead of a distribution (CryoFormer)."""

import torch
from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.latent import ConformationModel, Latent
from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.model.weights import draw_weights

# A point has no spread; this one is as good as none wherever a variance is asked for.
LOG_VAR = -20.0


class DeformationEncoder(ConformationModel):
    """z = F_D(image), read off each image by an encoder of its own; no noise is added and nothing is paid.

    Liu et al. 2024, § 3.2.
    """

    def __init__(self, settings: EncoderSettings, z_dim: int, generator: torch.Generator):
        super().__init__()
        self.z_dim = z_dim
        self.encoder = Encoder(settings, 1, generator)
        self.head = nn.Linear(settings.features, z_dim)
        draw_weights(self.head, generator)

    def forward(self, batch: Batch, noise: Tensor) -> Latent:
        """The feature of each image, whatever the noise."""
        z = self.head(self.encoder(batch)[:, 0])
        return Latent(z, torch.full_like(z, LOG_VAR), z, z.new_zeros(len(z)))
