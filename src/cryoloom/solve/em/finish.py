"""The end of every refinement: maps in positive contrast, particles with uncertainties, alarms, into the run."""

from cryoloom.data.particles import Particles
from cryoloom.physics.fourier import crossing_shell
from cryoloom.physics.rigid import without_round_part
from cryoloom.solve.em.alarms import (
    Alarm,
    copies_alarms,
    envelope_alarms,
    few_alarms,
    given_symmetry_alarms,
    halves_alarms,
    input_alarms,
    map_alarms,
    mixture_alarms,
    pose_alarms,
    resolution_alarms,
    symmetry_alarms,
    undecided_alarms,
)
from cryoloom.solve.em.given_symmetry import STAGE
from cryoloom.solve.em.postprocess import Postprocessed, agreement_alarms, postprocess
from cryoloom.solve.em.pseudosymmetry import BAND, find_copies, mirror_agreement
from cryoloom.solve.em.refine import Refinement, RefineState
from cryoloom.solve.em.results import positive, write_alarms, write_maps, write_particles
from cryoloom.solve.em.symmetry import exact_symmetry
from cryoloom.solve.session import Session

# Fewer resolution elements than this across the molecule show no hand.
_HANDED_CYCLES = 8.0


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
    write_alarms(run, [*_alarms(refinement, state, post, session), *input_alarms(particles)])
    resolution = round(post.resolution_angst, 3)
    run.record(stage="results", resolution_angst=resolution, b_factor=round(post.b_factor, 1), contrast=found.name)
    progress("results", 1, 1, f"{resolution:.2f} Å, molecule {found.name} in the images")


def _alarms(refinement: Refinement, state: RefineState, post: Postprocessed, session: Session) -> list[Alarm]:
    scope, images = refinement.scope, refinement.images
    found = map_alarms(state.volume, scope.radius_px)
    found += resolution_alarms(post.fsc, post.resolution_angst, images.pixel_size)
    found += agreement_alarms(post.curves, images.box * images.pixel_size)
    found += envelope_alarms(post.resolution_angst, scope.diameter_px * images.pixel_size)
    found += pose_alarms(state.poses) + few_alarms(len(images))
    lines = {line.get("stage"): line for line in session.run.metrics()}
    if (last := lines.get("half-sets compared")) is not None:
        found += halves_alarms(last["agreement"], last["confirmed"], last["starts"])
    if (given := lines.get(STAGE)) is not None:
        found += given_symmetry_alarms(given["plain"], given["turned"], session.run.config.symmetry)
    masked, resolved = state.volume * state.mask, crossing_shell(post.fsc, 0.5)
    cycles = scope.cycles(resolved, images.box)
    if cycles > _HANDED_CYCLES:
        found += mixture_alarms(mirror_agreement(masked, resolved), cycles)
    # A shell is the same however it is turned: only what is not round can be symmetric.
    copies = find_copies(without_round_part(masked), resolved).beyond(scope.group.cpu())
    name = exact_symmetry(copies, float(post.fsc[2 : int(min(BAND, resolved)) + 1].mean()))
    # A map that is as symmetric as its half-maps can tell is not nearly so. Both have equal poses.
    if name or len(state.copies):
        return found + (symmetry_alarms(name) if name else copies_alarms(state.copies, state.poses))
    return found + undecided_alarms(state.poses)
