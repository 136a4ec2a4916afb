"""Pose search: every image against shared templates over SO(3) × ℝ², then finer grids around the best of them.

Scores are log-likelihoods up to a constant of the image, `2 Re⟨C y / σ², S_t T_R⟩ − ⟨C² / σ², |T_R|²⟩`: the CTF is
moved onto the image, so that templates are shared by all images (cryoDRGN2 multiplies all templates by each CTF).
The shifts of a grid are few functions of frequency mixed (`ShiftBasis`): one product with those functions, a small one
that mixes them, and the largest over shifts; the second term knows no shift and is taken off afterwards.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.model.poses.evidence import Evidence, real_pairs
from cryoloom.model.poses.shifts import ShiftBasis, cells_across, shift_log_prior, shift_square, shift_step
from cryoloom.model.poses.templates import Projector, Templates, chunks
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import RotationGrid, asymmetric_unit

# Enough images at once that none costs a round of Python, few enough that their scores stay near the processor.
SCORES_PER_CHUNK = 6_000_000
SLICE_VALUES_PER_CHUNK = 2_000_000
# Below it every molecule is a ball, and a 15° grid tells all that there is.
LEAST_BAND = 6.0
# With fewer shifts along an axis the half extents of the finer levels cannot mend what the first grid got wrong.
_LEAST_SHIFTS = 4


class SearchSettings(BaseModel, extra="forbid"):
    """How an exhaustive search begins and how it narrows (cryoDRGN2, appendix A)."""

    angle_step: float = Field(
        default=15.0, gt=0, description="Spacing of the first rotation grid in degrees: 30, 15 or 7.5."
    )
    shift_points: int | None = Field(
        default=None, gt=0, description="Shifts along x and along y; else as many as the first band needs."
    )
    candidates: int = Field(default=8, gt=0, description="Rotations kept at every level, each with its best shift.")
    subdivisions: int = Field(default=4, ge=0, description="Levels that halve the steps of rotation and shift.")
    first_band: float = Field(default=12.0, gt=1, description="Band limit of the first grid, in Fourier pixels.")
    last_band: float | None = Field(
        default=None, gt=1, description="Band limit of the last level, in Fourier pixels; else all that the box holds."
    )
    hypotheses: int | None = Field(
        default=None, gt=0, description="Rotations handed on by the last level; else as many as candidates."
    )

    def at_band(self, band: float) -> "SearchSettings":
        """The search for a map that ends at `band`: no level beyond it, no angle finer than it can tell."""
        levels, step = 0, self.angle_step
        while step > 0.5 * math.degrees(1 / band) and levels < self.subdivisions:
            levels, step = levels + 1, step / 2
        first = min(self.first_band, max(LEAST_BAND, 0.6 * band), band)
        return self.model_copy(update={"first_band": first, "last_band": band, "subdivisions": levels})


class Candidates(NamedTuple):
    """K pose candidates of B particles: integers on a rotation grid, shifts (B, K, 2) px, scores (B, K), best first."""

    index: Tensor
    shift: Tensor
    score: Tensor


class Hypotheses(NamedTuple):
    """K poses of B particles, best first: rotation (B, K, 3, 3), shift (B, K, 2) px, score (B, K)."""

    rotation: Tensor
    shift: Tensor
    score: Tensor


class PoseSearch:
    """A hierarchical search: grids, bands and shifts of every level, checked against what the box holds."""

    def __init__(self, settings: SearchSettings, lattice: FrequencyLattice, group: Tensor, shift_px: float):
        """shift_px: largest shift along x or y. Raises InputError where a band, a grid or a shift does not fit."""
        s, box = settings, lattice.box
        self.settings, self.lattice, self.group, self.shift_px = s, lattice, group, shift_px
        self.grid = RotationGrid.with_spacing(s.angle_step)
        last = min(s.last_band or box / 2, box / 2)
        if s.first_band > last:
            raise InputError(
                f"search: the first band, {s.first_band:g}, is above the last, {last:g}, in a box of {box}."
            )
        if shift_px >= box / 2:
            raise InputError(
                f"search: shifts up to {shift_px:g} px do not fit a box of {box} px: expected less than half."
            )
        if s.candidates > len(self.grid):
            raise InputError(
                f"search: {s.candidates} candidates are more than the {len(self.grid)} rotations of the "
                f"{self.grid.spacing_deg:g}° grid."
            )
        growth = (last / s.first_band) ** (1 / max(1, s.subdivisions))
        self.bands = [s.first_band * growth**level for level in range(s.subdivisions + 1)]
        self.points = s.shift_points or max(_LEAST_SHIFTS, cells_across(shift_px, shift_step(box, s.first_band)))

    def shifts(self, level: int) -> Tensor:
        """Shifts (S, 2) in pixels of a level, half the step and half the extent of the level before."""
        return shift_square(self.shift_px / 2**level, self.points)

    def against(self, projector: Projector, turn: Tensor | None = None) -> "SearchPass":
        """The search against one volume, its templates rendered once; `turn` (3, 3) turns the grid as a whole."""
        return SearchPass(self, projector, torch.eye(3) if turn is None else turn)


class SearchPass:
    """A search against one volume, for as many images as there are."""

    def __init__(self, search: PoseSearch, projector: Projector, turn: Tensor):
        self.search, self.projector, self.turn = search, projector, turn
        rotations = search.grid.rotations() @ turn
        index = torch.nonzero(asymmetric_unit(rotations, search.group))[:, 0]
        device = search.lattice.k.device
        base = search.lattice.prefix(search.bands[0])
        self.index = index.to(device)
        self.templates = Templates.render(projector, rotations[index].to(device), base)
        self.lattices = [search.lattice.prefix(band) for band in search.bands]
        self.bases = [ShiftBasis.of_shifts(search.shifts(n), lattice) for n, lattice in enumerate(self.lattices)]

    def best(self, evidence: Evidence) -> Hypotheses:
        """The best poses of images (B): `hypotheses` rotations each, with their best shifts."""
        *_, found = self.levels(evidence)
        rotation = self.rotations(self.search.settings.subdivisions, found.index)
        return Hypotheses(rotation, found.shift, found.score)

    def levels(self, evidence: Evidence) -> Iterator[Candidates]:
        """The candidates of images (B) after each level, the base grid first."""
        s = self.search.settings
        last = s.hypotheses or s.candidates
        found = self._base(evidence, s.candidates if s.subdivisions else last)
        yield found
        for level in range(1, s.subdivisions + 1):
            found = self._finer(evidence, found, level, last if level == s.subdivisions else s.candidates)
            yield found

    def rotations(self, level: int, index: Tensor) -> Tensor:
        """Rotations (…, 3, 3) of candidates `index` (…) on the turned grid of a level."""
        grid = RotationGrid(self.search.grid.level + level)
        return (grid.rotations(index.flatten()) @ self.turn.to(index.device)).view(*index.shape, 3, 3)

    def _base(self, evidence: Evidence, keep: int) -> Candidates:
        evidence = evidence.prefix(self.search.bands[0])
        prior = shift_log_prior(self.bases[0].shifts, self.search.shift_px)
        found = base_candidates(self.templates, evidence, self.bases[0], prior, keep)
        return found._replace(index=self.index[found.index])

    def _finer(self, evidence: Evidence, found: Candidates, level: int, keep: int) -> Candidates:
        evidence = evidence.prefix(self.search.bands[level])
        grid = RotationGrid(self.search.grid.level + level)
        return subdivide(self.projector, evidence, found, grid, self.turn, self.bases[level], keep)


def base_candidates(
    templates: Templates, evidence: Evidence, basis: ShiftBasis, log_prior: Tensor, keep: int
) -> Candidates:
    """The `keep` best templates of every image, each with the best shift of `basis`; shifts have a log-prior (S,)."""
    exact = templates.pairs
    # Rounding only decides which candidates are kept: their scores are taken again in full precision.
    dtype = torch.bfloat16 if has_fast_bf16(exact.device) else exact.dtype
    columns, mix = exact.T.to(dtype), basis.mix.to(dtype)
    prior = 0.5 * log_prior[:, None].to(dtype)
    rank, kept = len(basis.functions), min(2 * keep, len(templates))
    chosen = []
    for chunk in chunks(len(evidence), len(basis.shifts) * len(templates), SCORES_PER_CHUNK):
        part = evidence.select(chunk)
        rows = real_pairs(part.weighted[:, None] * basis.functions).flatten(0, 1).to(dtype)
        cross = torch.baddbmm(prior, mix.expand(len(part), -1, -1), (rows @ columns).view(len(part), rank, -1))
        score = 2 * cross.amax(1).float() - part.power @ templates.power.T
        chosen.append(score.topk(kept, dim=1).indices)
    index = torch.cat(chosen)
    per_image = 2 * len(templates.lattice) * (kept + rank) + kept * len(basis.shifts)
    parts = chunks(len(evidence), per_image, SLICE_VALUES_PER_CHUNK)
    return _joined([_rescored(templates, evidence.select(c), index[c], basis, log_prior, keep) for c in parts])


def _rescored(
    templates: Templates, evidence: Evidence, index: Tensor, basis: ShiftBasis, log_prior: Tensor, keep: int
) -> Candidates:
    """Templates `index` (B, K) of every image in full precision, and the best shift of each; the best `keep`."""
    pairs = templates.pairs[index]
    rows = real_pairs(evidence.weighted[:, None] * basis.functions)
    cross = torch.matmul(torch.matmul(pairs, rows.transpose(1, 2)), basis.mix.T) + 0.5 * log_prior
    best, at = cross.max(-1)
    score = 2 * best - torch.einsum("bp,bkp->bk", evidence.power, templates.power[index])
    score, order = score.topk(min(keep, index.shape[1]), dim=1)
    return Candidates(index.gather(1, order), basis.shifts[at.gather(1, order)], score)


def subdivide(
    projector: Projector,
    evidence: Evidence,
    candidates: Candidates,
    grid: RotationGrid,
    turn: Tensor,
    basis: ShiftBasis,
    keep: int,
) -> Candidates:
    """One level finer: the eight children on `grid` of each candidate, with the shifts of `basis` around its shift.

    `turn` (3, 3) is the rotation of the grid as a whole.
    """
    kernel = real_pairs(basis.functions.conj()).T.contiguous()
    turn = turn.to(candidates.index.device)
    found = []
    per_image = candidates.index.shape[1] * 8 * (2 * len(evidence.lattice) + len(basis.shifts))
    for chunk in chunks(len(evidence), per_image, SLICE_VALUES_PER_CHUNK):
        part, shift = evidence.select(chunk), candidates.shift[chunk]
        children = RotationGrid(grid.level - 1).children(candidates.index[chunk])
        b, k, _ = children.shape
        slices = projector.project(grid.rotations(children.flatten()) @ turn, part.lattice).view(b, k, 8, -1)
        product = real_pairs(slices.conj() * part.centred(shift)[:, :, None]).flatten(0, 2)
        cross, best = (product @ kernel @ basis.mix.T).view(b, k, 8, -1).max(-1)
        power = torch.einsum("bp,bkcp->bkc", part.power, slices.abs() ** 2)
        score, order = (2 * cross - power).flatten(1).topk(min(keep, k * 8), dim=1)
        moved = (shift[:, :, None] + basis.shifts[best]).flatten(1, 2)
        picked = moved.gather(1, order[..., None].expand(-1, -1, 2))
        found.append(Candidates(children.flatten(1).gather(1, order), picked, score))
    return _joined(found)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware; elsewhere they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _joined(parts: list[Candidates]) -> Candidates:
    return Candidates(*(torch.cat(part) for part in zip(*parts, strict=True)))
