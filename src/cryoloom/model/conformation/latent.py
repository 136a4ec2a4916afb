"""What is believed of each particle's conformation: a Gaussian over z, a draw from it, and its price."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from cryoloom.model.batch import Batch


class Latent(NamedTuple):
    """Of B particles: mean and log variance (B, Z) of N(μ, σ²), z (B, Z) drawn from it, and KL (B,) in nats."""

    mean: Tensor
    log_var: Tensor
    z: Tensor
    kl: Tensor

    @classmethod
    def drawn(cls, mean: Tensor, log_var: Tensor, noise: Tensor) -> "Latent":
        """z = μ + σ ε for ε = `noise` (B, Z); KL to N(0, 1), ½ Σ μ² + σ² − 1 − log σ²."""
        variance = log_var.exp()
        kl = 0.5 * (mean**2 + variance - 1 - log_var).sum(-1)
        return cls(mean, log_var, mean + variance.sqrt() * noise, kl)

    def divergence(self, other: "Latent") -> Tensor:
        """KL (B,) in nats of this Gaussian to another: ½ Σ ((μ − μ′)² + σ²) / σ′² − 1 − log σ² / σ′²."""
        ratio = self.log_var - other.log_var
        return 0.5 * ((self.mean - other.mean) ** 2 / other.log_var.exp() + ratio.exp() - 1 - ratio).sum(-1)


class ConformationModel(nn.Module, ABC):
    """What infers each particle's conformation z."""

    z_dim: int

    @abstractmethod
    def forward(self, batch: Batch, noise: Tensor) -> Latent:
        """The latent of a batch, drawn with standard normal `noise` (B, Z)."""
