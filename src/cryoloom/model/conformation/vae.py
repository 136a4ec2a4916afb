"""VAE: conformations read off the images' features (Zhong et al. 2021)."""

import torch
from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.latent import ConformationModel, Latent
from cryoloom.model.weights import draw_weights


class VAE(ConformationModel):
    """Dense layers from the first view's features to the mean and log variance of z (B, Z)."""

    def __init__(self, features: int, z_dim: int, generator: torch.Generator):
        super().__init__()
        self.z_dim = z_dim
        self.head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, 2 * z_dim))
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)

    def forward(self, batch: Batch, noise: Tensor) -> Latent:
        """The latent of a batch whose features are there."""
        assert batch.features is not None
        mean, log_var = self.head(batch.features[:, 0]).chunk(2, -1)
        return Latent.drawn(mean, log_var, noise)
