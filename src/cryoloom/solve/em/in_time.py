"""Poses of movies after a refinement: frames beside each other weigh each other's, and the maps are made anew."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from cryoloom.model.movie_grid import MovieGrid
from cryoloom.model.poses.frames import along_movies, beside, drawn_together, tumbling
from cryoloom.model.poses.polish import Modes
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import angular_distance
from cryoloom.solve.em.refine import ParticlePoses, Refinement, RefineState, residual_power
from cryoloom.solve.em.sums import PAD, SliceSums
from cryoloom.solve.session import Session

ITERATIONS = 3


def refine_in_time(
    refinement: Refinement, state: RefineState, movies: tuple[Tensor, Tensor], session: Session
) -> RefineState:
    """A refinement's end with poses that frames of a movie tell each other; movies: of each particle movie, frame (N,).

    How far molecules turn from frame to frame is taken from the poses themselves; where that is too far, nothing
    changes.
    """
    s = tumbling(state.poses.rotation, MovieGrid.of(*movies))
    for i in range(ITERATIONS):
        metrics = {"stage": "movies", "iteration": i, "tumbling_deg": _whole_degrees(s), "used": math.isfinite(s)}
        if not math.isfinite(s):
            session.run.record(**metrics)
            return state
        before = state.poses.rotation
        state, s = _step(refinement, state, movies, s, session)
        turned = float((angular_distance(state.poses.rotation, before) > 10).float().mean())
        sigma = round(float(state.poses.rotation_sigma_deg.median()), 4)
        session.run.record(**metrics, turned=round(turned, 5), rotation_sigma_deg=sigma)
    return state


def _step(
    refinement: Refinement, state: RefineState, movies: tuple[Tensor, Tensor], s: float, session: Session
) -> tuple[RefineState, float]:
    """The refinement's state with new poses and maps, and the tumbling that the new poses tell."""
    images, poses = refinement.images, ParticlePoses(*(part.clone() for part in state.poses))
    residual = torch.zeros(len(images.lattice), device=images.device)
    sums: list[SliceSums] = []
    found: list[float] = []
    for half, volume in zip(refinement.halves, state.maps, strict=True):
        projector = FourierSlice.of_volume(volume, PAD)
        grid = MovieGrid.of(*(part[half] for part in movies))
        modes = _likeliest(_modes(refinement, projector, state, half, grid, session), grid, s)
        # Poses that are drawn together tell too little of how far they are apart.
        found.append(tumbling(modes.rotation[:, 0], grid))
        modes = _together(modes, grid, s)
        sums.append(SliceSums.zeros(images.box, refinement.full_band, refinement.scope.group, images.device))
        for rows in images.chunks(torch.arange(len(half))):
            evidence = images.evidence(half[rows], state.noise, refinement.full_band)
            part = Modes(*(p[rows].to(images.device) for p in modes))
            sums[-1].add_particles(evidence, part.rotation, part.shift, part.weights())
            residual += residual_power(projector, evidence, part.rotation[:, 0], part.shift[:, 0])
            poses.store(half[rows], part)
    noise = residual * images.lattice.from_shells(state.noise) / len(images)
    return refinement.maximise(replace(state, poses=poses), (sums[0], sums[1]), noise), sum(found) / len(found)


def _modes(
    refinement: Refinement, projector: FourierSlice, state: RefineState, half: Tensor, grid: MovieGrid, session: Session
) -> Modes:
    """The modes (n, K) of a half's particles: their poses and those of frames beside them, polished at the map."""
    images, found = refinement.images, []
    rotation = beside(state.poses.rotation[half], grid)
    for rows in images.chunks(torch.arange(len(half))):
        evidence = images.evidence(half[rows], state.noise, refinement.full_band)
        shift = state.poses.shift[half[rows], None].expand(-1, rotation.shape[1], 2)
        start = (rotation[rows].to(images.device), shift.to(images.device))
        # What an image alone finds unlikely may be what its movie tells.
        modes = refinement.modes(projector, evidence, state, *start, least=1e-9)
        found.append(Modes(*(part.cpu() for part in modes)))
        session.progress("movies", int(half[rows[-1]]) + 1, len(images), "frames beside each other")
    return Modes(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _likeliest(modes: Modes, grid: MovieGrid, s: float) -> Modes:
    """Modes (n, K) with the posterior that all frames of a movie give, the likeliest first."""
    weight = along_movies(modes.score + _log_width(modes.covariance), modes.rotation, grid, s)
    order = weight.argsort(-1, descending=True)
    rows = torch.arange(len(order))[:, None]
    modes = Modes(*(part[rows, order] for part in modes))
    return modes._replace(score=weight[rows, order].clamp(min=1e-30).log() - _log_width(modes.covariance))


def _together(modes: Modes, grid: MovieGrid, s: float) -> Modes:
    """Modes (n, K) whose first ones are drawn to those of frames beside them."""
    rotation, covariance = modes.rotation.clone(), modes.covariance.clone()
    rotation[:, 0], drawn = drawn_together(rotation[:, 0], covariance[:, 0, :3, :3], grid, s)
    covariance[:, 0, :3], covariance[:, 0, :, :3] = 0, 0
    covariance[:, 0, :3, :3] = drawn
    # A mode that has become narrower keeps its weight.
    score = modes.score + _log_width(modes.covariance) - _log_width(covariance)
    return Modes(rotation, modes.shift, score, covariance)


def _whole_degrees(s: float) -> float | None:
    """The root-mean-square angle from frame to frame, as `simulate --tumbling` has it; None where no frame has one."""
    return round(math.degrees(math.sqrt(3) * s), 3) if math.isfinite(s) else None


def _log_width(covariance: Tensor) -> Tensor:
    return 0.5 * torch.logdet(covariance.double()).float()
