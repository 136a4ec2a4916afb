"""Projections of one volume shared by all images, and the soft assignment of images to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence, real_pairs
from cryoloom.model.poses.shifts import ShiftBasis
from cryoloom.physics.fourier import FrequencyLattice

SCORES_PER_CHUNK = 3_000_000


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

    def __len__(self) -> int:
        return len(self.rotations)


class PosteriorSums(NamedTuple):
    """Posterior-weighted sums over images for each template: pairs (G, 2P), power (G, P).

    log_evidence: sum of log p(y) over images, up to a constant. peak: sum of their largest posteriors.
    """

    pairs: Tensor
    power: Tensor
    log_evidence: Tensor
    peak: Tensor


def posterior_sums(
    templates: Templates, evidence: Evidence, basis: ShiftBasis, log_prior: Tensor, temper: float = 1.0
) -> PosteriorSums:
    """Soft assignment of every image to all (shift, rotation) pairs, summed into the templates' slots.

    The posterior is softmax(temper · score); the shifts of `basis` have the log-prior (S,). Products run over the few
    functions that the shifts are mixtures of, in reduced precision: only what sets templates apart goes through them,
    so that rounding does not grow with what all of them share.
    """
    g, shared = len(templates), templates.pairs.mean(0)
    columns = (2 * temper * (templates.pairs - shared)).T.contiguous()
    power_columns = (temper * templates.power).T.contiguous()
    prior, mix, back = temper * log_prior[:, None], basis.mix, basis.mix.T.contiguous()
    pairs, power = torch.zeros_like(templates.pairs), torch.zeros_like(templates.power)
    total, peak = power.new_zeros(()), power.new_zeros(())
    for chunk in chunks(len(evidence), len(mix) * g, SCORES_PER_CHUNK):
        part = evidence.select(chunk)
        rows = real_pairs(part.weighted[:, None] * basis.functions)
        flat = rows.flatten(0, 1)
        with reduced_precision():
            cross = (flat @ columns).view(len(part), -1, g)
        cross += (2 * temper) * (rows @ shared)[..., None]
        logits = (mix @ cross).sub_((part.power @ power_columns)[:, None]).add_(prior)
        top = logits.amax((1, 2))
        weight = logits.sub_(top[:, None, None]).exp_()
        norm = weight.sum((1, 2))
        total += ((top + norm.log()) / temper - part.image_power.sum(1)).sum()
        peak += (1 / norm).sum()
        weight.div_(norm[:, None, None])
        with reduced_precision():
            pairs.addmm_((back @ weight).flatten(0, 1).T, flat)
            power.addmm_(weight.sum(1).T, part.power)
    return PosteriorSums(pairs, power, total, peak)


@contextmanager
def reduced_precision() -> Iterator[None]:
    """Float32 matrix products with bf16 factors and float32 sums, where the hardware has them; 2 to 4 times faster."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def chunks(n: int, values_each: int, budget: int) -> list[slice]:
    """Slices that cover n images, of as many as keep their `values_each` within `budget`, at least one."""
    size = max(1, budget // values_each)
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]
