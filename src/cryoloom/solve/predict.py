"""Poses of particles that a trained network never saw."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose
from cryoloom.solve.fit import FitState
from cryoloom.solve.model import Model, best_of
from cryoloom.solve.setup import Setup

CHUNK = 512


class Predicted(NamedTuple):
    """The pose of every particle (N, 1), its widths (N, 5) where they are read, and how many images a second were."""

    poses: Pose
    widths: Tensor | None
    images_per_s: float


@torch.no_grad()
def predict_poses(setup: Setup, parts: Mapping[str, nn.Module]) -> Predicted:
    """What the trained `parts` of a run say about the particles of `setup`, the best hypothesis of each.

    Raises InputError where the run has no checkpoint with such parts, or its images have another box.
    """
    session, path = setup.session, setup.session.run.path
    weights, state = session.saved("parts", dict), session.saved("fit", FitState, "cpu")
    if weights is None or state is None or any(name not in weights for name in parts):
        raise InputError(f"{path} has no trained network in its checkpoints: let the run finish first.")
    if 2 * len(state.noise) != setup.images.box:
        raise InputError(
            f"the network in {path} reads images of {2 * len(state.noise)} pixels, these have {setup.images.box}: "
            "give particles of the same box and pixel size."
        )
    for name, part in parts.items():
        part.load_state_dict(weights[name])
    model = Model(setup.images, parts, setup.settings.compute)
    found, n = [], len(setup.images)
    widths: list[Tensor] = []
    started = time.monotonic()
    for index in torch.arange(n).split(CHUNK):
        batch = model.batch(index, state.noise, setup.images.box / 2 - 1)
        pose = best_of(model.infer(batch))
        found.append(Pose(pose.rotation.cpu(), pose.shift.cpu()))
        if model.widths is not None:
            widths.append(model.widths(batch).cpu())
        session.progress("poses", int(index[-1]) + 1, n, "")
    read = torch.cat(widths) if widths else None
    return Predicted(Pose.concatenate(found), read, n / max(time.monotonic() - started, 1e-9))
