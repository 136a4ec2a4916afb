"""loom, the default: stochastic EM from nothing, then half-set refinement (the recipe)."""

from pydantic import Field
from torch import Tensor

from cryoloom.data.half_sets import half_sets
from cryoloom.data.movies import movie_numbers, with_movies
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose
from cryoloom.solve.em.abinitio import AbInitioSettings
from cryoloom.solve.em.finish import write_refined
from cryoloom.solve.em.given_symmetry import record_given_symmetry
from cryoloom.solve.em.in_time import refine_in_time
from cryoloom.solve.em.known import start_from_poses
from cryoloom.solve.em.march import EMMarchSettings
from cryoloom.solve.em.refine import Refinement, RefineSettings, RefineState
from cryoloom.solve.em.spherical import molecule_scope
from cryoloom.solve.em.stages import run_refinement
from cryoloom.solve.em.starts import HalfSearches
from cryoloom.solve.images import WorkingImages, record_outliers
from cryoloom.solve.run import Run
from cryoloom.solve.scope import ScopeSettings
from cryoloom.solve.session import Progress, Session
from cryoloom.solve.team import Team

SUMMARY = "expectation-maximisation with shared-template search, half-maps and a pose uncertainty per particle"
PAPER = "cryoloom"


class LoomSettings(ScopeSettings):
    """Settings of loom; every one has a default that fits most data."""

    ab_initio: AbInitioSettings = AbInitioSettings()
    march: EMMarchSettings = EMMarchSettings()
    refinement: RefineSettings = RefineSettings()
    temporal_prior: bool = Field(
        default=False,
        description="For movies: at the end, weigh each frame's poses by those of the frames beside it, as molecules "
        "turn little from frame to frame; how little is read off the poses.",
    )


def reconstruct(
    particles: Particles, poses: Pose | None, settings: LoomSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map, half-maps, poses with uncertainties and alarms of a particle set, into the run directory.

    With `poses` the ab initio stage is skipped; they are refined where the run's config says so.
    """
    config = run.config
    movies = _movies(particles, team) if settings.temporal_prior else None
    images = WorkingImages(particles, team.device)
    scope = molecule_scope(settings, images, config.symmetry)
    halves = half_sets(particles, config.seed)
    session = Session(run, team, progress)
    refinement = Refinement(images, settings.refinement, scope, halves, team)
    state = session.saved("refine", RefineState)
    if state is None and poses is not None:
        record_given_symmetry(images, halves, poses, scope, session)
        state = start_from_poses(refinement, poses)
    elif state is None:
        pair = HalfSearches(images, halves, settings.ab_initio, settings.march, scope, session).run()
        state = refinement.start(pair.volumes, pair.noise, pair.band)
    if poses is None or config.refine:
        state = run_refinement(refinement, state, session, search=poses is None)
    if movies is not None:
        state = refine_in_time(refinement, state, movies, session)
    record_outliers(images, session)
    write_refined(particles, refinement, state, settings.contrast, session)


def _movies(particles: Particles, team: Team) -> tuple[Tensor, Tensor]:
    if team.size > 1:
        raise InputError("--temporal-prior keeps movies whole and runs in one process: leave out --devices.")
    return movie_numbers(with_movies(particles))
