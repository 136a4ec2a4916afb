"""From the band that a soft search of a 15° grid reaches, on with finer angles, while orientations are uncertain."""

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.search import PoseSearch
from cryoloom.physics.project import FourierSlice
from cryoloom.solve.em.abinitio import (
    AbInitio,
    AbInitioSettings,
    AbInitioState,
    Bands,
    Expectation,
    Told,
)
from cryoloom.solve.em.grids import finest_step, search_settings
from cryoloom.solve.em.independent import on_box
from cryoloom.solve.em.refine import residual_power
from cryoloom.solve.em.sums import SliceSums
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.scope import Scope
from cryoloom.solve.team import Team

# Where most orientations are certain the march only mends what a coarse grid has bent: maps whose orientations are off
# by a smooth function of the view explain images nearly as well, and a refinement straightens them slowly.
_CERTAIN_CYCLES, _LAST_CYCLES = 8.0, 12.0
_SETTLING = 8


class EMMarchSettings(BaseModel, extra="forbid"):
    """Stochastic EM by hierarchical search, where the ab initio map does not settle the orientations."""

    certain: float = Field(
        default=0.6, ge=0, le=1, description="Mean largest posterior above which a shorter way is enough."
    )
    batch_size: int = Field(default=800, gt=1, description="Particles drawn for each iteration.")
    iterations: int = Field(default=45, ge=0, description="Most iterations.")
    last_resolution: float | None = Field(
        default=None,
        gt=0,
        description="Resolution where refinement takes over, Å; else a part of the diameter.",
    )
    growth: float = Field(default=0.03, gt=0, description="Part by which the band may grow in an iteration, at most.")
    momentum: float = Field(default=0.8, ge=0, lt=1, description="Share of the previous sums kept in each iteration.")
    candidates: int = Field(default=8, gt=0, description="Rotations kept at every level of the search.")


class March(AbInitio):
    """Stochastic EM whose E-step is the hierarchical search, so that the angles can follow the band."""

    def __init__(
        self, images: WorkingImages, rows: Tensor, settings: EMMarchSettings, scope: Scope, bands: Bands, team: Team
    ):
        s = settings
        soft = AbInitioSettings(batch_size=s.batch_size, growth=s.growth, momentum=s.momentum, temper_iterations=1)
        super().__init__(images, rows, soft, scope, bands, team)
        self.march, self.hold = settings, 0

    @staticmethod
    def bands(settings: EMMarchSettings, scope: Scope, images: WorkingImages, certain: bool) -> Bands:
        """How far a march goes: to a resolution in Å, or as far as orientations become a matter of degrees."""
        wanted = settings.last_resolution
        cycles = _CERTAIN_CYCLES if certain else _LAST_CYCLES
        last = images.box * images.pixel_size / wanted if wanted else scope.band(cycles, images.box)
        last = min(last, images.box / 2 - 1)
        return Bands(last, last, finest_step(scope.group))

    def go_on(self, found: AbInitioState) -> AbInitioState:
        """The state of a finished soft search, on this search's box and within its last band.

        Symmetric molecules reach finer bands softly than a short march goes to.
        """
        band = min(found.band, self.bands.last)
        box, device = self.images.box, self.images.device
        volume = on_box(found.volume, box) * self.mask
        noise = first_noise(self.images)
        noise[: int(band) + 1] = found.noise[: int(band) + 1]
        ssnr = torch.ones(box // 2, device=device)
        empty = self._empty()
        return AbInitioState(0, band, noise, (empty, empty), volume, ssnr, found.log_evidence, ())

    def converged(self, state: AbInitioState) -> bool:
        """Whether the band arrived some iterations ago, or the iterations are used up."""
        if state.iteration >= self.march.iterations:
            return True
        return state.band >= self.bands.last - 1e-3 and state.iteration - state.grew >= _SETTLING

    def _expectation(self, state: AbInitioState, projector: FourierSlice, turn: Tensor) -> Expectation:
        """The best of the hierarchical search, weighted by their posterior."""
        settings = search_settings(self.scope, self.images.box, state.band, self.march.candidates)
        search = PoseSearch(settings, self.images.lattice, self.scope.group, self.scope.shift_px)
        found_by = search.against(projector, turn)

        def expect(evidence: Evidence, sums: SliceSums) -> Told:
            found = found_by.best(evidence)
            weight = torch.softmax(found.score, 1)
            sums.add_particles(evidence, found.rotation, found.shift, weight)
            log_evidence = (torch.logsumexp(found.score, 1) - evidence.image_power.sum(1)).sum()
            residual = residual_power(projector, evidence, found.rotation[:, 0], found.shift[:, 0])
            return Told(residual, log_evidence, weight.amax(1).sum())

        return expect
