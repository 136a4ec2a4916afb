"""Stand-in for the search engine: the same signature over exhaustive search and subdivision as they are."""

from typing import NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.search import Templates, best_candidates, shift_grid, subdivide
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import RotationGrid, asymmetric_unit


class SearchSettings(BaseModel, extra="forbid"):
    """Hierarchical search over rotations and shifts."""

    angle_step: float = Field(default=15.0, gt=0, description="Spacing of the exhaustive rotation grid, degrees.")
    shift_extent_px: float | None = Field(default=None, gt=0, description="Largest shift searched, px; else the run's.")
    shift_step_px: float | None = Field(default=None, gt=0, description="Spacing of shifts, px; else by the band.")
    candidates: int = Field(default=8, gt=0, description="Rotations kept at each level.")
    subdivisions: int = Field(default=4, ge=0, description="Times that the kept rotations are divided into eight.")
    first_band: float = Field(default=12.0, gt=1, description="Band of the exhaustive level, Fourier pixels.")
    last_band: float | None = Field(default=None, gt=1, description="Band of the finest level; else that of the box.")


class Hypotheses(NamedTuple):
    """K poses of each of B particles, best first: rotation (B, K, 3, 3), shift (B, K, 2) px, score (B, K)."""

    rotation: Tensor
    shift: Tensor
    score: Tensor


class PoseSearch:
    """Search of the poses of images against one volume. Raises InputError where band or shifts do not fit the box."""

    def __init__(self, settings: SearchSettings, lattice: FrequencyLattice, group: Tensor, shift_px: float):
        self.settings, self.lattice, self.group = settings, lattice, group
        self.last_band = min(settings.last_band or lattice.box / 2, lattice.box / 2)
        self.first_band = min(settings.first_band, self.last_band)
        self.extent = settings.shift_extent_px or shift_px
        if self.extent > lattice.box / 2:
            raise InputError(f"shifts of {self.extent:g} px do not fit a box of {lattice.box}: give a smaller shift.")

    def against(self, projector: FourierSlice, turn: Tensor) -> "BoundSearch":
        """The search with templates of one volume rendered, on a grid turned by `turn` (3, 3)."""
        return BoundSearch(self, projector, turn)


class BoundSearch:
    """A search bound to a volume."""

    def __init__(self, search: PoseSearch, projector: FourierSlice, turn: Tensor):
        self.search, self.projector, self.turn = search, projector, turn
        self.grid = RotationGrid.with_spacing(search.settings.angle_step)
        rotations = self.grid.rotations() @ turn
        kept = torch.nonzero(asymmetric_unit(rotations, search.group))[:, 0]
        device = search.lattice.k.device
        self.names = kept.to(device)
        coarse = search.lattice.prefix(search.first_band)
        self.templates = Templates.render(projector, rotations[kept].to(device), coarse)

    def best(self, evidence: Evidence) -> Hypotheses:
        """The best poses of the images behind some evidence."""
        s, search = self.search.settings, self.search
        device = search.lattice.k.device
        step = s.shift_step_px or min(search.lattice.box / (4 * search.first_band), search.extent)
        shifts = shift_grid(search.extent, step).to(device)
        prior = torch.zeros(len(shifts), device=device)
        found = best_candidates(
            self.templates, self.names, evidence.prefix(search.first_band), shifts, prior, s.candidates
        )
        level = self.grid.level
        for i in range(s.subdivisions):
            level += 1
            band = search.first_band + (search.last_band - search.first_band) * (i + 1) / s.subdivisions
            local = shift_grid(0.75 * step, step / 2).to(device)
            step /= 2
            found = subdivide(self.projector, evidence.prefix(band), found, level, self.turn, local, s.candidates)
        rotation = RotationGrid(level).rotations(found.index.flatten()) @ self.turn.to(device)
        rotation = rotation.view(*found.index.shape, 3, 3)
        return Hypotheses(rotation, found.shift, found.score)
