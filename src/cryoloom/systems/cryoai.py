"""cryoAI: poses and shifts read off each image and its half turn, a FourierNet answers (the recipe)."""

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.model.encoders import EncoderSettings
from cryoloom.model.fields.settings import FieldName, NetworkSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.amortised import AmortisedSettings, fit_amortised
from cryoloom.solve.gradual import GradualSettings
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.team import Team

SUMMARY = "a FourierNet, poses and shifts read off the images, symmetric loss; cost independent of their number"
PAPER = "Levy et al., ECCV 2022"


class CryoAISettings(AmortisedSettings):
    """Settings of cryoai."""

    field: FieldName = Field(default="fouriernet", description="The volume: fouriernet, siren, mlp or voxels.")
    # A FourierNet's exponential learns how a spectrum falls.
    network: NetworkSettings = NetworkSettings(shell_scale=False)
    encoder: EncoderSettings = EncoderSettings(network="mlp", width=64)
    train: GradualSettings = GradualSettings(
        passes=30,
        first_band=64,
        last_band=64,
        learning_rate=3e-4,
        last_rate=0.1,
        noise="white",
        prepare_passes=0,
    )


def reconstruct(
    particles: Particles, poses: Pose | None, settings: CryoAISettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory; `poses` that are given are kept."""
    fit_amortised(Setup(particles, settings, run, team, progress), settings, poses)
