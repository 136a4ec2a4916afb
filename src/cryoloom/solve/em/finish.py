"""The end of every refinement: maps in positive contrast, particles with uncertainties, alarms, into the run."""

from cryoloom.data.particles import Particles
from cryoloom.solve.em.alarms import copies_alarms, map_alarms, pose_alarms, resolution_alarms
from cryoloom.solve.em.postprocess import agreement_alarms, postprocess
from cryoloom.solve.em.refine import Refinement, RefineState
from cryoloom.solve.em.results import positive, write_alarms, write_maps, write_particles
from cryoloom.solve.session import Session


def write_refined(
    particles: Particles, refinement: Refinement, state: RefineState, contrast: str, session: Session
) -> None:
    """Write what a refinement ended with; of a team, the process that leads."""
    if not session.team.leads:
        return
    run, images, progress = session.run, refinement.images, session.progress
    progress("results", 0, 1, "")
    state, found = positive(state, contrast, particles.has_ctf)
    copies = len(refinement.scope.group)
    post = postprocess(state.half_maps, state.volume, state.mask, images.pixel_size, run.config.seed, copies)
    write_maps(run, state, post, images.pixel_size)
    write_particles(run, particles, state.poses, refinement.halves)
    alarms = map_alarms(state.volume, refinement.scope.radius_px)
    alarms += resolution_alarms(post.fsc, post.resolution_angst, images.pixel_size)
    alarms += agreement_alarms(post.curves, images.box * images.pixel_size)
    write_alarms(run, alarms + pose_alarms(state.poses) + copies_alarms(state.copies, state.poses))
    resolution = round(post.resolution_angst, 3)
    run.record(stage="results", resolution_angst=resolution, b_factor=round(post.b_factor, 1), contrast=found.name)
    progress("results", 1, 1, f"{resolution:.2f} Å, molecule {found.name} in the images")
