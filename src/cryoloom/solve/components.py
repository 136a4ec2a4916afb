"""Linear components in which images differ: the z that they say, and poses searched at the conformations they span."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.data.half_sets import half_sets
from cryoloom.model.poses.polish import polish
from cryoloom.model.poses.search import PoseSearch, SearchSettings
from cryoloom.physics.fourier import resample_volume
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice
from cryoloom.solve.em.sums import PAD
from cryoloom.solve.em.variability import Variability, Volumes
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.latents import Latents, representatives
from cryoloom.solve.placing import POLISHED
from cryoloom.solve.scope import Scope
from cryoloom.solve.session import Session

# Components beyond it are sought no finer: so many images and maps fit in memory, whatever their box.
_BAND = 28.0
# A path of conformations lies on an arc: one component alone would cut its ends off.
_LEAST_SEARCHED_WITH = 3


class ConformationMaps(NamedTuple):
    """Maps (2, M, d, d, d) of M conformations as each half-set makes them, and the noise (d/2,) by shell beside them.

    d: box of `WorkingImages.coarse`. All in the memory of the CPU.
    """

    maps: Tensor
    noise: Tensor

    @classmethod
    def none(cls) -> "ConformationMaps":
        """Of no conformation."""
        return cls(torch.zeros(2, 0, 1, 1, 1), torch.zeros(0))


@torch.no_grad()
def of_components(
    images: WorkingImages, poses: Pose, noise: Tensor, band: float, mask: Tensor, stored: Latents, session: Session
) -> Latents:
    """What all particles have of the linear components in which their images differ, as many as `stored` has."""
    count = stored.mean.shape[1]
    variability, volumes = _components(images, poses, noise, band, mask, count, session)
    return Latents(*variability.latents(volumes, count))


@torch.no_grad()
def conformation_maps(
    images: WorkingImages,
    poses: Pose,
    noise: Tensor,
    band: float,
    mask: Tensor,
    z_dim: int,
    many: int,
    session: Session,
) -> ConformationMaps:
    """Maps of `many` conformations at most, among which every particle has a near one, by linear components."""
    count = max(z_dim, _LEAST_SEARCHED_WITH)
    variability, volumes = _components(images, poses, noise, band, mask, count, session)
    found = len(volumes[0].components)
    z, log_var = variability.latents(volumes, found)
    centres = representatives(Latents(z, log_var), many).to(images.device)
    maps = [v.mean + torch.einsum("mk,kzyx->mzyx", centres, v.components) for v in volumes]
    return ConformationMaps((torch.stack(maps) * variability.mask).cpu(), variability.noise.cpu())


def _components(
    images: WorkingImages, poses: Pose, noise: Tensor, band: float, mask: Tensor, count: int, session: Session
) -> tuple[Variability, list[Volumes]]:
    halves, band = half_sets(images.particles, session.run.config.seed), min(band, _BAND)
    coarse = images.coarse(band)
    noise, mask = noise[: coarse.box // 2], resample_volume(mask, coarse.box).clamp(0, 1)
    variability = Variability(coarse, poses, halves, noise, band, mask, session.team)

    def progress(done: int, total: int) -> None:
        session.progress("components", done, total, "iterations")

    return variability, variability.components(count, session.generator, progress)


class AmongConformations:
    """What finds poses anew by a search at the maps of several conformations, polished up to a band.

    Every particle is searched at all of them, as one whose pose is wrong has a wrong z, too; and at those of the other
    half-set, in whose noise there is nothing of the particle's own. Its stored pose stays if none is better.
    """

    def __init__(
        self,
        images: WorkingImages,
        made: ConformationMaps,
        settings: SearchSettings,
        steps: int,
        band: float,
        scope: Scope,
        poses: Pose,
        turn: Tensor,
        seed: int,
    ):
        """settings, steps: of the search and of the polish after it; turn: (3, 3) of the grid."""
        self.band, self.steps, self.poses = min(band, _BAND), steps, poses
        self.images = images.coarse(self.band)
        self.noise = made.noise.to(images.device)
        shift_px = scope.shift_px * self.images.box / images.box
        search = PoseSearch(settings, self.images.lattice, scope.group, shift_px)
        self.half = torch.zeros(len(images), dtype=torch.long)
        self.half[half_sets(images.particles, seed)[1]] = 1
        self.finders = [
            [self._at_map(volume.to(images.device), search, turn) for volume in maps] for maps in made.maps.flip(0)
        ]

    def __call__(self, index: Tensor) -> Pose:
        """Poses (b, 1) of the particles at an index (b,)."""
        found, places = [], []
        for half, finders in enumerate(self.finders):
            rows = torch.nonzero(self.half[index] == half)[:, 0]
            if len(rows):
                found.append(self._best(finders, index[rows]))
                places.append(rows)
        return Pose.concatenate(found).select(torch.cat(places).argsort())

    def _best(self, finders: list[Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]], index: Tensor) -> Pose:
        rotation, shift, score = (torch.stack(part) for part in zip(*(f(index) for f in finders), strict=True))
        rows = torch.arange(len(index), device=score.device)
        which = score.argmax(0)
        return Pose(rotation[which, rows], shift[which, rows] * self.images.pixel_size)

    def _at_map(
        self, volume: Tensor, search: PoseSearch, turn: Tensor
    ) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
        projector = FourierSlice.of_volume(volume, PAD)
        bound = search.against(projector, turn)

        def find(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            evidence = self.images.evidence(index, self.noise, self.band)
            found, stored = bound.best(evidence), self.poses.select(index)
            rotation = torch.cat([stored.rotation.to(found.rotation), found.rotation[:, :POLISHED]], 1)
            shift = torch.cat([stored.shift.to(found.shift) / self.images.pixel_size, found.shift[:, :POLISHED]], 1)
            modes = polish(projector, evidence, rotation, shift, self.steps).distinct()
            return modes.rotation[:, :1], modes.shift[:, :1], modes.score[:, 0]

        return find
