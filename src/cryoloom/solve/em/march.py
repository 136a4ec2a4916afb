"""From the band that a soft search of a 15° grid reaches, on with finer angles, while orientations are uncertain."""

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.search import PoseSearch, SearchSettings
from cryoloom.physics.fourier import resample_volume
from cryoloom.physics.project import FourierSlice
from cryoloom.solve.em.abinitio import AbInitio, AbInitioSettings, AbInitioState, Expectation, Told
from cryoloom.solve.em.refine import residual_power
from cryoloom.solve.em.sums import SliceSums
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.team import Team


class EMMarchSettings(BaseModel, extra="forbid"):
    """Stochastic EM by hierarchical search, where the ab initio map does not settle the orientations."""

    certain: float = Field(
        default=0.6, ge=0, le=1, description="Mean largest posterior above which refinement follows at once."
    )
    batch_size: int = Field(default=800, gt=1, description="Particles drawn for each iteration.")
    iterations: int = Field(default=45, ge=0, description="Most iterations.")
    last_band: float = Field(default=16.0, gt=1, description="Band limit at which refinement takes over.")
    growth: float = Field(default=0.25, gt=0, description="Most that the band may grow in an iteration.")
    momentum: float = Field(default=0.8, ge=0, lt=1, description="Share of the previous sums kept in each iteration.")
    candidates: int = Field(default=8, gt=0, description="Rotations kept at every level of the search.")


class March(AbInitio):
    """Stochastic EM whose E-step is the hierarchical search, so that the angles can follow the band."""

    def __init__(
        self,
        images: WorkingImages,
        settings: EMMarchSettings,
        group: Tensor,
        shift_px: float,
        radius_px: float,
        team: Team,
    ):
        s = settings
        soft = AbInitioSettings(batch_size=s.batch_size, last_band=s.last_band, growth=s.growth, momentum=s.momentum)
        super().__init__(images, soft, group, shift_px, radius_px, team)
        self.march = settings

    def go_on(self, found: AbInitioState) -> AbInitioState:
        """The state of a finished soft search, on this search's box."""
        box, device = self.images.box, self.images.device
        scale = (found.volume.shape[-1] / box) ** 3
        volume = resample_volume(found.volume, box) * scale * self.mask
        noise = first_noise(self.images)
        noise[: int(found.band) + 1] = found.noise[: int(found.band) + 1]
        empty = SliceSums.zeros(box, self.last_band, self.group, device)
        ssnr = torch.ones(box // 2, device=device)
        return AbInitioState(0, found.band, noise, (empty, empty), volume, ssnr, found.log_evidence, 0.0, ())

    def converged(self, state: AbInitioState) -> bool:
        """Whether the band has arrived, or the iterations are used up."""
        return state.iteration >= self.march.iterations or state.band >= self.last_band - 1e-3

    def _expectation(self, state: AbInitioState, projector: FourierSlice, turn: Tensor) -> Expectation:
        """The best of the hierarchical search, weighted by their posterior."""
        settings = SearchSettings(candidates=self.march.candidates).at_band(state.band)
        search = PoseSearch(settings, self.images.lattice, self.group, self.shift_px).against(projector, turn)

        def expect(evidence: Evidence, sums: SliceSums) -> Told:
            found = search.best(evidence)
            weight = torch.softmax(found.score, 1)
            sums.add_particles(evidence, found.rotation, found.shift, weight)
            log_evidence = torch.logsumexp(found.score, 1) - evidence.image_power.sum(1)
            moments = torch.stack([log_evidence.sum(), log_evidence.square().sum()])
            residual = residual_power(projector, evidence, found.rotation[:, 0], found.shift[:, 0])
            return Told(residual, moments, weight.amax(1).sum())

        return expect
