"""pose-VAE, the baseline of cryoDRGN2: an encoder predicts each image's pose, trained with the field (the recipe)."""

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.encoders import ConvolutionalEncoder
from cryoloom.model.fields.mlp import MLPField, MLPSettings
from cryoloom.model.poses.regressor import PoseRegressor
from cryoloom.physics.pose import Pose
from cryoloom.solve.amplitude import signal_amplitude
from cryoloom.solve.fit import ComputeSettings, Fit
from cryoloom.solve.gradual import GradualSettings, together
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.results import write_fit
from cryoloom.solve.run import Run
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.session import Progress, Session
from cryoloom.solve.team import Team

SUMMARY = "baseline: a convolutional encoder predicts the pose, trained together with the field"
PAPER = "Zhong et al., ICCV 2021"


class PoseVAESettings(ScopeSettings):
    """Settings of pose-vae."""

    encoder_rate: float = Field(default=1e-4, gt=0, description="Learning rate of the encoder.")
    field: MLPSettings = MLPSettings()
    train: GradualSettings = GradualSettings(first_band=16.0)
    compute: ComputeSettings = ComputeSettings()


def reconstruct(
    particles: Particles, poses: Pose | None, settings: PoseVAESettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory. Raises InputError where poses are given."""
    if poses is not None:
        raise InputError("pose-vae predicts the poses itself and takes none: leave out --poses and --init.")
    images = WorkingImages(particles, team.device)
    scope = Scope.of(settings, images, run.config.symmetry)
    session = Session(run, team, progress)
    field = MLPField(images.box, settings.field, session.beginning)
    field.amplitude.copy_(signal_amplitude(images))
    shift_angst = scope.shift_px * images.pixel_size
    regressor = PoseRegressor(ConvolutionalEncoder(), shift_angst, session.beginning)
    stages = together(settings.train, ("field", "poses"), settings.encoder_rate, images.box)
    fit = Fit(images, {"field": field, "poses": regressor}, stages, session, scope, settings.compute)
    state = fit.run(fit.start())
    if team.leads:
        write_fit(run, particles, fit.map(), fit.mask, state.poses, settings.contrast)
