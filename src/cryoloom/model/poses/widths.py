"""What a network believes of the pose that it says: a Gaussian about it, mean field (TEMPOR, eq. 14)."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cryoloom.model.batch import Batch
from cryoloom.model.poses.heads import dense_head
from cryoloom.model.weights import draw_weights
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import matrix_from_rotvec

# A rotation vector and a shift.
NUMBERS = 5
# Radians; a shift's are as large a part of its limit.
_FIRST, _LARGEST = 0.05, 1.0


class PoseWidths(nn.Module):
    """Dense layers from the first view's features to widths σ of rotation and shift, alike for all hypotheses.

    A pose is drawn by turning and moving the one that is said in the detector's frame: R ← exp([σ_R ε_R]×) R,
    t ← t + σ_t ε_t. `kl_weight` is that of the divergence to poses all alike, −Σ log σ up to a constant. With
    `shift_angst` 0 shifts are drawn from no width.
    """

    largest: Tensor

    def __init__(self, features: int, shift_angst: float, kl_weight: float, generator: torch.Generator):
        super().__init__()
        self.kl_weight = kl_weight
        self.told = NUMBERS if shift_angst else 3
        self.head = dense_head(features, NUMBERS)
        self.register_buffer("largest", torch.tensor([_LARGEST] * 3 + [_LARGEST * shift_angst] * 2))
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)

    def forward(self, batch: Batch) -> Tensor:
        """Widths (B, 5) of a batch whose features are there: of the rotation vector in radians, of the shift in Å."""
        return self._said(batch).sigmoid() * self.largest

    def drawn(self, batch: Batch, pose: Pose, noise: Tensor) -> Pose:
        """Poses (B, K, …) about those of `pose`, with standard normal `noise` (B, 5)."""
        moved = self(batch) * noise
        turn = matrix_from_rotvec(moved[:, :3])
        return Pose(turn[:, None] @ pose.rotation, pose.shift + moved[:, None, 3:])

    def price(self, batch: Batch) -> Tensor:
        """The divergence to poses all alike (B,) in nats, up to a constant, by its weight."""
        return -self.kl_weight * logsigmoid(self._said(batch)[:, : self.told]).sum(-1)

    def _said(self, batch: Batch) -> Tensor:
        """Numbers (B, 5) whose sigmoids are parts of the largest widths."""
        assert batch.features is not None
        return self.head(batch.features[:, 0]) + math.log(_FIRST / (_LARGEST - _FIRST))
