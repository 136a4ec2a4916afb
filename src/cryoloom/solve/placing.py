"""Poses found anew in a fit: by a search or a polish at the field's maps, or by the model's own part for poses."""

from collections.abc import Callable

import torch
from torch import Tensor

from cryoloom.model.poses.polish import polish
from cryoloom.model.poses.search import PoseSearch
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice
from cryoloom.solve.em.masks import molecule_mask
from cryoloom.solve.em.sums import PAD
from cryoloom.solve.latents import Latents, nearest, representatives
from cryoloom.solve.model import Model, best_of
from cryoloom.solve.stages import Stage

POLISHED = 3
_ENVELOPE_BAND = 8.0


class Placing:
    """What finds the poses of a stage that replaces stored ones, with what is known when it begins.

    poses, z: stored, of all N particles; noise: (D/2,) by shell; turn: (3, 3) of the search grid; mask: (D, D, D);
    envelope: (D, D, D) of the molecule as far as it is known. At several conformations each particle is taken to the
    map of the nearest one.
    """

    def __init__(
        self,
        model: Model,
        stage: Stage,
        search: PoseSearch | None,
        mask: Tensor,
        poses: Pose,
        z: Latents,
        noise: Tensor,
        turn: Tensor,
        envelope: Tensor | None = None,
    ):
        self.model, self.stage, self.search = model, stage, search
        self.mask, self.envelope = mask, envelope
        self.poses, self.z, self.turn = poses, z, turn
        self.noise = noise.to(model.images.device)
        self.finders: list[Callable[[Tensor], Pose]] = []
        if stage.poses != "infer":
            self.centres = representatives(z, stage.representatives)
            self.finders = [self._at_map(centre) for centre in self.centres.to(model.images.device)]

    def __call__(self, index: Tensor) -> Pose:
        """Poses (b, 1) of the particles at an index (b,)."""
        if not self.finders:
            return best_of(self.model.infer(self.model.batch(index, self.noise, self.stage.band)))
        which = nearest(self.z, self.centres, index)
        order = which.argsort(stable=True)
        groups = order.split(torch.bincount(which, minlength=len(self.finders)).tolist())
        found = [find(index[rows]) for find, rows in zip(self.finders, groups, strict=True) if len(rows)]
        return Pose.concatenate(found).select(order.argsort())

    def _mask(self, volume: Tensor) -> Tensor:
        """What of a map (D, D, D) counts: where the molecule is known, its envelope and that of the map itself."""
        if self.envelope is None:
            return self.mask
        own = molecule_mask(volume, _ENVELOPE_BAND, self.mask)
        return torch.maximum(own, self.envelope.to(own) * self.mask)

    def _at_map(self, z: Tensor) -> Callable[[Tensor], Pose]:
        """What finds poses by a search or a polish against the field's map of one conformation z (Z,)."""
        stage, images = self.stage, self.model.images
        volume = self.model.map(stage.band, z if len(z) else None)
        projector = FourierSlice.of_volume(volume * self._mask(volume), PAD)
        bound = None if self.search is None else self.search.against(projector, self.turn)

        def find(index: Tensor) -> Pose:
            evidence = images.evidence(index, self.noise, stage.band)
            if bound is not None:
                found = bound.best(evidence)
                rotation, shift = found.rotation[:, :POLISHED], found.shift[:, :POLISHED]
            else:
                rotation, shift = (part.to(images.device) for part in self.poses.select(index))
                shift = shift / images.pixel_size
            if stage.polish_steps:
                modes = polish(projector, evidence, rotation, shift, stage.polish_steps).distinct()
                rotation, shift = modes.rotation, modes.shift
            return Pose(rotation[:, :1], shift[:, :1] * images.pixel_size)

        return find
