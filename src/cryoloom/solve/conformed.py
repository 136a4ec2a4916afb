"""What systems with a conformation for every particle share: its settings, and the part that infers it."""

from pathlib import Path

from pydantic import Field
from torch import Tensor, nn

from cryoloom.model.conformation.dvae import DVAE, DynamicsSettings
from cryoloom.model.conformation.vae import VAE
from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.solve.setup import NeuralSettings, Setup
from cryoloom.solve.warm import load_part, trained_parts


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


def dvae_parts(
    setup: Setup, settings: ConformationSettings, dynamics: DynamicsSettings, movies: tuple[Tensor, Tensor]
) -> dict[str, nn.Module]:
    """A field of z, an encoder, and a DVAE over the features of movies: of each particle movie and frame (N,)."""
    field, encoder = setup.field(settings.z_dim), Encoder(settings.encoder, 1, setup.beginning)
    dvae = DVAE(encoder.features, settings.z_dim, dynamics, movies, setup.beginning)
    return {"field": field, "encoder": encoder, "conformation": dvae}


def begin_as_vae(parts: dict[str, nn.Module], folder: Path) -> bool:
    """Give parts of `dvae_parts` what the run in `folder` learned frame by frame; False where it learned no z at all.

    Raises InputError where its networks are of other shapes.
    """
    if "conformation" not in trained_parts(folder):
        return False
    dvae = parts["conformation"]
    assert isinstance(dvae, DVAE)
    for name, part in (("field", parts["field"]), ("encoder", parts["encoder"]), ("conformation", dvae.frames)):
        load_part(part, name, folder)
    return True
