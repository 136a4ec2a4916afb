"""The loops of loom: random starts until two agree, then refinement until nothing moves, all of it resumable."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from cryoloom.physics.fourier import crossing_shell
from cryoloom.solve.em.abinitio import AbInitio, AbInitioSettings, AbInitioState
from cryoloom.solve.em.march import EMMarchSettings, March
from cryoloom.solve.em.refine import Refinement, RefineState
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.session import Session

# While more particles than this change between copies of a pseudo-symmetric molecule, its map still sharpens.
MOST_JUMPS = 0.005

Search = TypeVar("Search", bound=AbInitio)


@dataclass(frozen=True)
class Trials:
    """Random starts of the ab initio search: the one under way, and the best that was finished."""

    number: int
    state: AbInitioState
    best: AbInitioState | None


def run_ab_initio(search: AbInitio, session: Session) -> AbInitioState:
    """Searches from random starts, each until it converges, until the best is confirmed; returns the most likely."""
    s, saved = search.settings, session.saved("ab_initio", Trials)
    trials = saved or Trials(1, search.start(session.generator), None)
    total = s.starts * s.iterations
    while True:
        state = trials.state
        if search.converged(state):
            best = state if trials.best is None or state.log_evidence > trials.best.log_evidence else trials.best
            confirmed = trials.best is not None and search.agree(state, trials.best)
            if confirmed or trials.number == s.starts:
                session.progress("ab initio", total, total, f"{trials.number} starts, band {best.band:.1f}")
                return best
            trials = Trials(trials.number + 1, search.start(session.generator), best)
            continue
        trials = replace(trials, state=search.step(state, session.generator))
        session.save(_ab_initio_metrics(search, trials), ab_initio=trials)
        done = (trials.number - 1) * s.iterations + trials.state.iteration
        text = f"start {trials.number}, band {trials.state.band:.1f}, certainty {trials.state.peaks[-1]:.2f}"
        session.progress("ab initio", done, total, text)


def from_nothing(
    images: WorkingImages,
    settings: AbInitioSettings,
    on: EMMarchSettings,
    group: Tensor,
    shift_px: float,
    radius_px: float,
    session: Session,
) -> AbInitioState:
    """A map to refine: by the soft search, and where that leaves orientations uncertain by a march to a higher band."""

    def made(kind: Callable[..., Search], settings: Any) -> Search:
        coarse = images.coarse(settings.last_band)
        scale = coarse.box / images.box
        return kind(coarse, settings, group, shift_px * scale, radius_px * scale, session.team)

    march = made(March, on)
    state = session.saved("march", AbInitioState)
    if state is None:
        found = run_ab_initio(made(AbInitio, settings), session)
        if found.peaks[-1] >= on.certain:
            return found
        state = march.go_on(found)
    return _run_march(march, state, session)


def _run_march(march: March, state: AbInitioState, session: Session) -> AbInitioState:
    total = march.march.iterations
    while not march.converged(state):
        state = march.step(state, session.generator)
        box_angst = march.images.box * march.images.pixel_size
        session.save(
            {
                "stage": "march",
                "iteration": state.iteration,
                "band": round(state.band, 2),
                "resolution_angst": round(box_angst / state.band, 2),
                "log_likelihood": round(state.log_evidence, 3),
                "max_posterior": round(state.peaks[-1], 4),
                "images": min(march.settings.batch_size, len(march.images)),
            },
            march=state,
        )
        session.progress("march", state.iteration, total, f"band {state.band:.1f}, certainty {state.peaks[-1]:.2f}")
    return state


def _ab_initio_metrics(search: AbInitio, trials: Trials) -> dict[str, Any]:
    state = trials.state
    box_angst = search.images.box * search.images.pixel_size
    return {
        "stage": "ab initio",
        "start": trials.number,
        "iteration": state.iteration,
        "band": round(state.band, 2),
        "resolution_angst": round(box_angst / state.band, 2),
        "log_likelihood": round(state.log_evidence, 3),
        "max_posterior": round(state.peaks[-1], 4),
        "images": min(search.settings.batch_size, len(search.images)),
    }


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
        resolved = crossing_shell(state.fsc, 0.143)
        resolution = refinement.images.box * refinement.images.pixel_size / max(resolved, 1e-3)
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
