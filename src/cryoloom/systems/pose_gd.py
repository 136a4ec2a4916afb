"""pose-GD, the baseline of cryoDRGN2: poses as a table of parameters that follow the gradient (the recipe)."""

from typing import Literal

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.poses.table import PoseTable
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.gradual import GradualSettings, prepare, together
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import NeuralSettings, Setup
from cryoloom.solve.team import Team
from cryoloom.solve.warm import load_part

SUMMARY = "baseline: gradient descent on a table of poses, from a trained field (--init), given poses, or nothing"
PAPER = "Zhong et al., ICCV 2021"


class PoseGDSettings(NeuralSettings):
    """Settings of pose-gd."""

    start: Literal["random", "given"] = Field(
        default="random", description="Where the poses start: at random, or where --poses or --init have them."
    )
    pose_rate: float = Field(default=1e-2, gt=0, description="Learning rate of the poses, in radians and pixels.")
    train: GradualSettings = GradualSettings()


def reconstruct(
    particles: Particles, poses: Pose | None, settings: PoseGDSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory. Raises InputError for a start that is not there."""
    if settings.start == "given" and poses is None:
        raise InputError("--start given: no poses are given; add --poses known, --poses FILE or --init RUN.")
    setup = Setup(particles, settings, run, team, progress)
    field = setup.field()
    stages = together(settings.train, {"poses": settings.pose_rate}, setup.images.box)
    if run.config.init is not None:
        load_part(field, "field", run.config.init)
    else:
        stages.insert(0, prepare(settings.train, "stored" if poses is not None else "random", setup.images.box))
    random = Pose.single(random_rotations(len(setup.images), setup.beginning))
    given = poses if settings.start == "given" and poses is not None else random
    setup.fit({"field": field, "poses": PoseTable(given, setup.images.pixel_size)}, stages, poses)
