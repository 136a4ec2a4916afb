"""Pose search: every image against shared templates, then per-particle refinement by subdivision.

Scores are log-likelihoods up to a constant of the image. The base level is one matrix product with templates shared by
all images (cryoDRGN2 multiplies every template by every image's CTF instead); finer levels render eight children of
each kept rotation.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence, real_pairs
from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import RotationGrid

SCORES_PER_CHUNK = 1_500_000


@dataclass(frozen=True)
class Templates:
    """Projections of one volume at G rotations, shared by all images of a pass: pairs (G, 2P), power (G, P)."""

    rotations: Tensor
    pairs: Tensor
    power: Tensor
    lattice: FrequencyLattice

    @classmethod
    def render(cls, projector: FourierSlice, rotations: Tensor, lattice: FrequencyLattice) -> "Templates":
        """Project the volume once at every rotation (G, 3, 3)."""
        slices = projector.project(rotations, lattice)
        return cls(rotations, real_pairs(slices), slices.abs() ** 2, lattice)

    def columns(self) -> Tensor:
        """(G, 3P + 1): what a row of (moved image, its power, its log-prior) is multiplied with to give the score."""
        return torch.cat([2 * self.pairs, -self.power, torch.ones_like(self.power[:, :1])], 1)

    def __len__(self) -> int:
        return len(self.rotations)


class Candidates(NamedTuple):
    """K pose candidates of each of B particles: integers on a rotation grid, shifts (B, K, 2) px, scores (B, K)."""

    index: Tensor
    shift: Tensor
    score: Tensor


class PosteriorSums(NamedTuple):
    """Posterior-weighted sums over images for each template: pairs (G, 2P), power (G, P).

    log_evidence: (2,) sum and sum of squares of log p(y) over images, up to a constant. peak: sum of their largest
    posteriors.
    """

    pairs: Tensor
    power: Tensor
    log_evidence: Tensor
    peak: Tensor


def shift_grid(extent_px: float, step_px: float) -> Tensor:
    """Shifts (S, 2) in pixels on a square grid of `step_px` within a circle of radius `extent_px`, centre included."""
    n = int(extent_px / step_px + 1e-6)
    axis = torch.arange(-n, n + 1) * step_px
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x.flatten(), y.flatten()], -1)
    return grid[grid.norm(dim=-1) <= extent_px + 1e-4]


def _rows(evidence: Evidence, shifts: Tensor, log_prior: Tensor) -> Tensor:
    """What every (image, shift) pair brings to the product with the templates: (B·S, 3P + 1)."""
    moved = evidence.weighted[:, None] * shift_phases(evidence.lattice.k, -shifts, evidence.lattice.box)
    b, s, _ = moved.shape
    power = evidence.power[:, None].expand(-1, s, -1)
    return torch.cat([real_pairs(moved), power, log_prior[:, None].expand(b, -1, -1)], -1).flatten(0, 1)


def _chunks(n: int, scores_per_image: int) -> list[slice]:
    size = max(1, SCORES_PER_CHUNK // scores_per_image)
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def posterior_sums(
    templates: Templates, evidence: Evidence, shifts: Tensor, log_prior: Tensor, temper: float = 1.0
) -> PosteriorSums:
    """Soft assignment of every image to all (shift, rotation) pairs, summed into the templates' slots.

    The posterior is softmax(temper · score); shifts (S, 2) px have the log-prior (S,). One product scores, one sums.
    """
    g, p = templates.power.shape
    columns = (templates.columns() * temper).T
    sums = columns.new_zeros(g, 3 * p + 1)
    total, peak = sums.new_zeros(2), sums.new_zeros(())
    for chunk in _chunks(len(evidence), len(shifts) * g):
        part = evidence.select(chunk)
        rows = _rows(part, shifts, log_prior)
        logits = (rows @ columns).view(len(part), -1)
        weight = torch.softmax(logits, 1)
        top, at = weight.max(1)
        log_evidence = (logits.gather(1, at[:, None])[:, 0] - top.log()) / temper - part.image_power.sum(1)
        total += torch.stack([log_evidence.sum(), log_evidence.square().sum()])
        peak += top.sum()
        sums.addmm_(weight.view(len(rows), g).T, rows)
    return PosteriorSums(sums[:, : 2 * p].contiguous(), sums[:, 2 * p : -1].contiguous(), total, peak)


def best_candidates(
    templates: Templates, index: Tensor, evidence: Evidence, shifts: Tensor, log_prior: Tensor, keep: int
) -> Candidates:
    """The `keep` best templates of every image, each with its best shift; `index` (G,) names their rotations."""
    columns = templates.columns().T
    found = []
    for chunk in _chunks(len(evidence), len(shifts) * len(templates)):
        part = evidence.select(chunk)
        scores = (_rows(part, shifts, log_prior) @ columns).view(len(part), len(shifts), -1)
        score, shift = scores.max(1)
        score, best = score.topk(min(keep, len(templates)), dim=1)
        found.append(Candidates(index[best], shifts[shift.gather(1, best)], score))
    return Candidates(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def subdivide(
    projector: FourierSlice,
    evidence: Evidence,
    candidates: Candidates,
    level: int,
    turn: Tensor,
    shifts: Tensor,
    keep: int,
) -> Candidates:
    """One level finer: the eight children of each candidate rotation, on the local shifts (S, 2) px around its shift.

    `level` is the children's grid level; `turn` (3, 3) is the random rotation of the whole grid.
    """
    grid = RotationGrid(level)
    kernel = real_pairs(shift_phases(evidence.lattice.k, shifts, evidence.lattice.box)).T.contiguous()
    found = []
    for chunk in _chunks(len(evidence), candidates.index.shape[1] * 8 * len(evidence.lattice) // 8):
        part = evidence.select(chunk)
        index, shift = candidates.index[chunk], candidates.shift[chunk]
        b, k = index.shape
        children = RotationGrid(level - 1).children(index)
        rotations = grid.rotations(children.flatten()) @ turn
        slices = projector.project(rotations, part.lattice).view(b, k, 8, -1)
        moved = part.centred(shift)
        cross = (real_pairs(slices.conj() * moved[:, :, None]).flatten(0, 2) @ kernel).view(b, k, 8, -1)
        score, best = cross.max(-1)
        power = torch.einsum("bp,bkcp->bkc", part.power, slices.abs() ** 2)
        score = (2 * score - power).flatten(1)
        moved_to = (shift[:, :, None] + shifts[best]).flatten(1, 2)
        score, order = score.topk(min(keep, k * 8), dim=1)
        picked = moved_to.gather(1, order[..., None].expand(-1, -1, 2))
        found.append(Candidates(children.flatten(1).gather(1, order), picked, score))
    return Candidates(*(torch.cat(parts) for parts in zip(*found, strict=True)))
