"""TEMPOR: each movie's conformations inferred together, poses known or read off its frames, an MLP answers."""

from dataclasses import replace

from pydantic import Field

from cryoloom.data.movies import movie_numbers, with_movies
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.conformation.dvae import DynamicsSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.amortised import ReadingSettings, amortised_parts, read_together
from cryoloom.solve.conformed import LatentSettings, begin_as_vae, filmed_parts
from cryoloom.solve.gradual import GradualSettings, at_known
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.team import Team

SUMMARY = "a volume for every frame of liquid-phase movies by a DVAE; --init takes a cryodrgn or hetem run over"
PAPER = "Ye et al., ICCV 2023"


class TemporSettings(LatentSettings, ReadingSettings):
    """Settings of tempor."""

    read_poses: bool = Field(
        default=False, description="Read poses off each frame, too, as hetem does, whose run --init takes over."
    )
    dynamics: DynamicsSettings = DynamicsSettings()
    # At a small weight a frame is best read from itself alone; at the full one too early, no motion is found at all.
    beta: float = Field(default=1.0, ge=0, description=LatentSettings.model_fields["beta"].description)
    beta_passes: int | None = Field(
        default=None, ge=0, description=LatentSettings.model_fields["beta_passes"].description
    )
    # Frames of a movie may all be seen from nearly one side: a batch does not tell how views are spread.
    spread: float = Field(default=0.0, ge=0, description=ReadingSettings.model_fields["spread"].description)
    train: GradualSettings = GradualSettings(passes=50, first_band=64, last_band=64, prepare_passes=0, coefficients=0.4)


def reconstruct(
    particles: Particles, poses: Pose | None, settings: TemporSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Volume and a conformation for every frame of movies, into the run directory.

    Raises InputError without poses that it is not to read, without movies, or for several processes.
    """
    s = settings
    if poses is None and not s.read_poses:
        raise InputError(
            "tempor needs poses: add --poses known, --poses FILE or --init RUN (of loom or cryodrgn, say), or let it "
            "read them: --read-poses."
        )
    if team.size > 1:
        raise InputError("tempor keeps movies whole and runs in one process: leave out --devices and --num-nodes.")
    filmed = with_movies(particles)
    movies = movie_numbers(filmed)
    setup = Setup(filmed, settings, run, team, progress)
    box, betas = setup.images.box, s.betas(s.train.passes)
    begun = amortised_parts(setup, s, None, s.z_dim) if s.read_poses else None
    parts = filmed_parts(setup, s, s.dynamics, movies, begun)
    if run.config.init is not None:
        begin_as_vae(parts, run.config.init)
    stages = at_known(s.train, box, s.rates, betas)
    if s.read_poses:
        read = read_together(s, s.train, {**s.rates, **s.reading_rates}, box)
        stages = [*(replace(stage, beta=beta) for stage, beta in zip(read, betas, strict=False)), read[-1]]
    setup.fit(parts, stages, poses, movies[0])
