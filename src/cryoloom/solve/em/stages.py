"""The loop of a refinement: until poses stand still, resumable at every iteration."""

from dataclasses import replace

from cryoloom.solve.em.agreement import agreement
from cryoloom.solve.em.refine import Refinement, RefineState
from cryoloom.solve.session import Session

# While more particles than this change between copies of a pseudo-symmetric molecule, its map still sharpens.
MOST_JUMPS = 0.005


def run_refinement(refinement: Refinement, state: RefineState, session: Session, search: bool) -> RefineState:
    """Refine until poses stand still; with `search`, the first iterations and a last one search all orientations.

    The last search gives every particle the posterior over all its modes.
    """
    s = refinement.settings
    total = s.iterations
    while state.iteration < total:
        if search and state.iteration == s.global_iterations:
            state = refinement.with_copies(state)
        quiet = state.moved_deg < s.still_degrees and (not len(state.copies) or state.jumped < MOST_JUMPS)
        still = state.iteration > s.global_iterations and quiet
        last = still or state.iteration == total - 1
        everywhere = search and (last or state.iteration < s.global_iterations)
        state = refinement.step(state, everywhere, session.generator)
        if search and state.iteration <= s.global_iterations:
            state = refinement.in_one_frame(state)
        # Corrected for the mask, as at the end: what the mask adds would make the run seem better than its result.
        curves = agreement(state.half_maps, state.mask, session.run.config.seed, len(refinement.scope.group))
        resolution = refinement.images.box * refinement.images.pixel_size / max(curves.shell_at(0.143), 1.0)
        session.save(
            {
                "stage": "refine",
                "iteration": state.iteration,
                "band": round(state.band, 2),
                "resolution_angst": round(resolution, 3),
                "log_likelihood": round(state.log_likelihood, 3),
                "rotation_change_deg": round(state.moved_deg, 4),
                "jumped": round(state.jumped, 5),
                "copies": len(state.copies),
                "rotation_sigma_deg": round(float(state.poses.rotation_sigma_deg.median()), 4),
                "max_posterior": round(float(state.poses.max_posterior.mean()), 4),
                "images": len(refinement.images),
            },
            refine=replace(state, iteration=total) if last else state,
        )
        session.progress("refine", state.iteration, total, f"{resolution:.2f} Å, poses moved {state.moved_deg:.2f}°")
        if last:
            break
    session.progress("refine", total, total, "done")
    return state
