"""pose-GD, the baseline of cryoDRGN2: poses as a table of parameters that follow the gradient (the recipe)."""

from typing import Literal

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.fields.mlp import MLPField, MLPSettings
from cryoloom.model.poses.table import PoseTable
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.amplitude import signal_amplitude
from cryoloom.solve.fit import ComputeSettings, Fit
from cryoloom.solve.gradual import GradualSettings, prepare, together
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.results import write_fit
from cryoloom.solve.run import Run
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.session import Progress, Session
from cryoloom.solve.team import Team
from cryoloom.solve.warm import load_part

SUMMARY = "baseline: gradient descent on a table of poses, from a trained field (--init), given poses, or nothing"
PAPER = "Zhong et al., ICCV 2021"


class PoseGDSettings(ScopeSettings):
    """Settings of pose-gd."""

    start: Literal["random", "given"] = Field(
        default="random", description="Where the poses start: at random, or where --poses or --init have them."
    )
    pose_rate: float = Field(default=1e-2, gt=0, description="Learning rate of the poses, in radians and pixels.")
    field: MLPSettings = MLPSettings()
    train: GradualSettings = GradualSettings()
    compute: ComputeSettings = ComputeSettings()


def reconstruct(
    particles: Particles, poses: Pose | None, settings: PoseGDSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory. Raises InputError for a start that is not there."""
    if settings.start == "given" and poses is None:
        raise InputError("--start given: no poses are given; add --poses known, --poses FILE or --init RUN.")
    images = WorkingImages(particles, team.device)
    scope = Scope.of(settings, images, run.config.symmetry)
    session = Session(run, team, progress)
    field = MLPField(images.box, settings.field, session.beginning)
    field.amplitude.copy_(signal_amplitude(images))
    stages = together(settings.train, ("field", "poses"), settings.pose_rate, images.box)
    if run.config.init is not None:
        load_part(field, "field", run.config.init)
    else:
        stages.insert(0, prepare(settings.train, "stored" if poses is not None else "random", images.box))
    random = Pose.single(random_rotations(len(images), session.beginning))
    given = poses if settings.start == "given" and poses is not None else random
    table = PoseTable(given, images.pixel_size)
    fit = Fit(images, {"field": field, "poses": table}, stages, session, scope, settings.compute)
    state = fit.run(fit.start(poses))
    if team.leads:
        write_fit(run, particles, fit.map(), fit.mask, state.poses, settings.contrast)
