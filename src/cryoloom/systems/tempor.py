"""TEMPOR: poses known, each movie's conformations inferred together, a positional MLP answers (the recipe)."""

from pydantic import Field

from cryoloom.data.movies import movie_numbers, with_movies
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.conformation.dvae import DynamicsSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.conformed import LatentSettings, begin_as_vae, dvae_parts
from cryoloom.solve.gradual import GradualSettings, at_known
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.team import Team

SUMMARY = "a volume for every frame of liquid-phase movies by a DVAE, poses known; --init takes a cryodrgn run over"
PAPER = "Ye et al., ICCV 2023"


class TemporSettings(LatentSettings):
    """Settings of tempor."""

    dynamics: DynamicsSettings = DynamicsSettings()
    # At a small weight a frame is best read from itself alone; here the frames around it have their say.
    beta: float = Field(default=2.0, ge=0, description=LatentSettings.model_fields["beta"].description)
    encoder_rate: float = Field(default=3e-3, gt=0, description="Learning rate of encoder and DVAE, by Adam.")
    train: GradualSettings = GradualSettings(passes=20, first_band=64, last_band=64, prepare_passes=0)


def reconstruct(
    particles: Particles, poses: Pose | None, settings: TemporSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Volume and a conformation for every frame of movies, into the run directory.

    Raises InputError without poses, without movies, or for several processes.
    """
    if poses is None:
        raise InputError(
            "tempor needs poses: add --poses known, --poses FILE or --init RUN (of loom or cryodrgn, say)."
        )
    if team.size > 1:
        raise InputError("tempor keeps movies whole and runs in one process: leave out --devices and --num-nodes.")
    filmed = with_movies(particles)
    movies = movie_numbers(filmed)
    setup = Setup(filmed, settings, run, team, progress)
    parts = dvae_parts(setup, settings, settings.dynamics, movies)
    if run.config.init is not None:
        begin_as_vae(parts, run.config.init)
    stages = at_known(settings.train, setup.images.box, settings.rates, settings.betas(settings.train.passes))
    setup.fit(parts, stages, poses, movies[0])
