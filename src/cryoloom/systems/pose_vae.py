"""pose-VAE, the baseline of cryoDRGN2: an encoder predicts each image's pose, trained with the field (the recipe)."""

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.encoders import EncoderSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.amortised import AmortisedSettings, ReadingSettings, fit_amortised
from cryoloom.solve.gradual import GradualSettings
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.team import Team

SUMMARY = "baseline: a convolutional encoder predicts the pose, trained together with the field"
PAPER = "Zhong et al., ICCV 2021"
_SAYS = ReadingSettings.model_fields


class PoseVAESettings(AmortisedSettings):
    """Settings of pose-vae."""

    # As published: what helps the others would be no baseline.
    encoder: EncoderSettings = EncoderSettings(width=16)
    encoder_rate: float = Field(default=1e-4, gt=0, description=_SAYS["encoder_rate"].description)
    symmetric_loss: bool = Field(default=False, description=_SAYS["symmetric_loss"].description)
    spread: float = Field(default=0.0, ge=0, description=_SAYS["spread"].description)
    rehearsal: float = Field(default=0.0, ge=0, description=_SAYS["rehearsal"].description)
    train: GradualSettings = GradualSettings(first_band=16.0)


def reconstruct(
    particles: Particles, poses: Pose | None, settings: PoseVAESettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory. Raises InputError where poses are given."""
    if poses is not None:
        raise InputError("pose-vae predicts the poses itself and takes none: leave out --poses and --init.")
    fit_amortised(Setup(particles, settings, run, team, progress), settings, poses)
