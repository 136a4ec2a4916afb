"""Whether the poses that a network reads are those that explain the images: of some particles they are searched."""

from dataclasses import replace

import torch
from torch import Tensor

from cryoloom.model.poses.search import PoseSearch, SearchSettings
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance
from cryoloom.solve.latents import prior
from cryoloom.solve.model import Model
from cryoloom.solve.placing import Placing
from cryoloom.solve.scope import Scope
from cryoloom.solve.stages import Stage

# Enough that a share is known to some percent, few enough that the search takes seconds.
_SEARCHED = 200
# Poses that a network says loosely lie nearer; those of a trap lie a mirror image or a turn away.
FAR_DEG = 30.0


@torch.no_grad()
def misread_share(model: Model, stage: Stage, scope: Scope, mask: Tensor, poses: Pose, noise: Tensor) -> float:
    """Share of some particles that the field's map explains best from more than `FAR_DEG` off the pose that was read.

    stage: in which the poses were read; mask: (D, D, D) multiplied on the map; poses: of all N particles; noise:
    (D/2,) power by shell.
    """
    images = model.images
    search = SearchSettings().at_band(stage.band)
    anew = replace(stage, poses="search", search=search, polish_steps=0, representatives=1)
    finder = PoseSearch(search, images.lattice, scope.group, scope.shift_px)
    known = (mask, poses, prior(len(images), model), noise, torch.eye(3))
    index = torch.linspace(0, len(images) - 1, min(_SEARCHED, len(images))).long()
    found = Placing(model, anew, finder, *known)(index).best_rotation.cpu()
    read = poses.best_rotation[index].cpu()
    turned = angular_distance(found[:, None], read[:, None] @ scope.group.to(read)).amin(1)
    return float((turned > FAR_DEG).float().mean())
