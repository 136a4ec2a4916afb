"""cryoDRGN: known poses, a VAE reads each image's conformation, a positional MLP answers (the recipe)."""

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose
from cryoloom.solve.conformed import ConformationSettings, conformed_parts, learning, settling
from cryoloom.solve.gradual import GradualSettings
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.team import Team

SUMMARY = "continuous conformations by a VAE or a table, poses known"
PAPER = "Zhong et al., Nature Methods 2021"


class CryodrgnSettings(ConformationSettings):
    """Settings of cryodrgn."""

    train: GradualSettings = GradualSettings(passes=20, first_band=64, last_band=64, prepare_passes=2, coefficients=0.4)


def reconstruct(
    particles: Particles, poses: Pose | None, settings: CryodrgnSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Volume and conformations of a particle set, into the run directory. Raises InputError without poses."""
    if poses is None:
        raise InputError("cryodrgn needs poses: add --poses known, --poses FILE or --init RUN (of loom, say).")
    setup, train = Setup(particles, settings, run, team, progress), settings.train
    stages = learning(settings, train, setup.images.box) + settling(settings, train, setup.images.box)
    setup.fit({"field": setup.field(settings.z_dim), **conformed_parts(setup, settings)}, stages, poses)
