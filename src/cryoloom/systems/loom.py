"""loom, the default: stochastic EM from nothing, then half-set refinement (the recipe)."""

from pydantic import Field
from torch import Tensor

from cryoloom.data.movies import movie_numbers, with_movies
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import point_group
from cryoloom.solve.em.abinitio import AbInitioSettings
from cryoloom.solve.em.finish import write_refined
from cryoloom.solve.em.in_time import refine_in_time
from cryoloom.solve.em.known import start_from_poses
from cryoloom.solve.em.march import EMMarchSettings
from cryoloom.solve.em.refine import Refinement, RefineSettings, RefineState
from cryoloom.solve.em.stages import from_nothing, run_refinement
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
    group = point_group(config.symmetry)
    shift_px = (settings.max_shift_angst or 0.08 * images.box * images.pixel_size) / images.pixel_size
    radius_px = 0.5 * (settings.mask_diameter_angst or 0.9 * images.box * images.pixel_size) / images.pixel_size
    halves = particles.half_sets(config.seed)
    session = Session(run, team, progress)
    refinement = Refinement(images, settings.refinement, group, halves, shift_px, radius_px, team)
    saved = session.saved("refine", RefineState)
    if saved is not None:
        state = saved
    elif poses is None:
        found = from_nothing(images, settings.ab_initio, settings.march, group, shift_px, radius_px, session)
        state = refinement.start(found.volume, found.noise, found.band)
    else:
        state = start_from_poses(refinement, poses)
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
