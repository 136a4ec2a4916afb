"""Poses as a table of parameters, one row a particle, that follow the gradient."""

import torch
from torch import nn

from cryoloom.model.batch import Batch
from cryoloom.model.poses.inference import PoseModel
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import matrix_from_rotvec


class PoseTable(PoseModel):
    """Poses `R = exp([w]×) R₀`, `t = t₀ + d` of N particles, K hypotheses each, with parameters (w, d), rad and px.

    The parameters' gradient is sparse: a step moves only the particles of its batch.
    """

    rotation: torch.Tensor
    shift: torch.Tensor

    def __init__(self, start: Pose, pixel_size: float):
        super().__init__()
        n, k = start.rotation.shape[:2]
        self.pixel_size = pixel_size
        self.register_buffer("rotation", start.rotation.clone())
        self.register_buffer("shift", start.shift.clone())
        self.move = nn.Embedding(n, 5 * k, sparse=True, _weight=torch.zeros(n, 5 * k))

    def forward(self, batch: Batch) -> Pose:
        """Poses (B, K, 3, 3) and shifts (B, K, 2) in Å of a batch."""
        index = batch.index.to(self.rotation.device)
        w, d = self.move(index).view(len(batch), -1, 5).split((3, 2), -1)
        rotation = matrix_from_rotvec(w.flatten(0, 1)).view(*w.shape[:2], 3, 3) @ self.rotation[index]
        return Pose(rotation, self.shift[index] + d * self.pixel_size)
