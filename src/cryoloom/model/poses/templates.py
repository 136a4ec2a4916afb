"""Projections of one volume shared by all images, and the soft assignment of images to them."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence, real_pairs
from cryoloom.physics.fourier import FrequencyLattice, shift_phases

SCORES_PER_CHUNK = 1_500_000


class Projector(Protocol):
    """What renders projections: `FourierSlice`, or a field that knows its own."""

    def project(self, rotations: Tensor, lattice: FrequencyLattice) -> Tensor:
        """Half-plane spectra (R, P) at rotations (R, 3, 3)."""
        ...


@dataclass(frozen=True)
class Templates:
    """Projections of one volume at G rotations, shared by all images of a pass: pairs (G, 2P), power (G, P)."""

    rotations: Tensor
    pairs: Tensor
    power: Tensor
    lattice: FrequencyLattice

    @classmethod
    def render(cls, projector: Projector, rotations: Tensor, lattice: FrequencyLattice) -> "Templates":
        """Project the volume once at every rotation (G, 3, 3)."""
        slices = projector.project(rotations, lattice)
        return cls(rotations, real_pairs(slices), slices.abs() ** 2, lattice)

    def columns(self) -> Tensor:
        """(G, 3P + 1): what a row of (moved image, its power, its log-prior) is multiplied with to give the score."""
        return torch.cat([2 * self.pairs, -self.power, torch.ones_like(self.power[:, :1])], 1)

    def __len__(self) -> int:
        return len(self.rotations)


class PosteriorSums(NamedTuple):
    """Posterior-weighted sums over images for each template: pairs (G, 2P), power (G, P).

    log_evidence: (2,) sum and sum of squares of log p(y) over images, up to a constant. peak: sum of their largest
    posteriors.
    """

    pairs: Tensor
    power: Tensor
    log_evidence: Tensor
    peak: Tensor


def _rows(evidence: Evidence, shifts: Tensor, log_prior: Tensor) -> Tensor:
    """What every (image, shift) pair brings to the product with the templates: (B·S, 3P + 1)."""
    moved = evidence.weighted[:, None] * shift_phases(evidence.lattice.k, -shifts, evidence.lattice.box)
    b, s, _ = moved.shape
    power = evidence.power[:, None].expand(-1, s, -1)
    return torch.cat([real_pairs(moved), power, log_prior[:, None].expand(b, -1, -1)], -1).flatten(0, 1)


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
    for chunk in chunks(len(evidence), len(shifts) * g, SCORES_PER_CHUNK):
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


def chunks(n: int, values_each: int, budget: int) -> list[slice]:
    """Slices that cover n images, of as many as keep their `values_each` within `budget`, at least one."""
    size = max(1, budget // values_each)
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]
