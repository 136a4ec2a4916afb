"""CryoPoseNet: a convolutional network reads each image's pose, voxels in real space answer (the recipe)."""

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.model.fields.settings import FieldName
from cryoloom.physics.pose import Pose
from cryoloom.solve.amortised import AmortisedSettings, fit_amortised
from cryoloom.solve.gradual import GradualSettings
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.team import Team

SUMMARY = "voxels in real space, poses read off the images by a convolutional network"
PAPER = "Nashed et al., ICCVW 2021"


class CryoPoseNetSettings(AmortisedSettings):
    """Settings of cryoposenet."""

    field: FieldName = Field(default="voxels", description="The volume: voxels, mlp, siren or fouriernet.")
    encoder_rate: float = Field(default=5e-4, gt=0, description="Learning rate of the encoder and its heads, by Adam.")
    train: GradualSettings = GradualSettings(
        passes=36,
        first_band=64,
        last_band=64,
        learning_rate=0.02,
        last_rate=0.1,
        noise="white",
        prepare_passes=0,
    )


def reconstruct(
    particles: Particles, poses: Pose | None, settings: CryoPoseNetSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory; `poses` that are given are kept."""
    fit_amortised(Setup(particles, settings, run, team, progress), settings, poses)
