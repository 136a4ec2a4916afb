"""What systems with a conformation for every particle share: its settings, and the part that infers it."""

from pydantic import Field
from torch import nn

from cryoloom.model.conformation.vae import VAE
from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.solve.setup import NeuralSettings, Setup


class ConformationSettings(NeuralSettings):
    """Settings of systems whose volume depends on a latent z."""

    z_dim: int = Field(default=8, ge=0, description="Dimensions of each particle's conformation z; 0: one volume.")
    beta: float = Field(default=1.0, ge=0, description="Weight of the conformations' KL divergence, in nats an image.")
    encoder: EncoderSettings = EncoderSettings(network="mlp")
    encoder_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the encoder, by Adam.")


def vae_parts(setup: Setup, settings: ConformationSettings) -> dict[str, nn.Module]:
    """An encoder of its own and a VAE over its features."""
    encoder = Encoder(settings.encoder, 1, setup.beginning)
    return {"encoder": encoder, "conformation": VAE(encoder.features, settings.z_dim, setup.beginning)}
