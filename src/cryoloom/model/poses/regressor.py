"""Poses read off the images by a network: a rotation and a shift for each view of the image."""

import torch
from torch import Tensor

from cryoloom.model.batch import Batch
from cryoloom.model.poses.heads import HEADS, HeadName, dense_head
from cryoloom.model.poses.inference import PoseModel
from cryoloom.model.weights import draw_weights
from cryoloom.physics.pose import Pose


class PoseRegressor(PoseModel):
    """Dense layers from an encoder's features to a rotation, and to a shift of up to `shift_angst`.

    Features (B, V, F) give V·H hypotheses, H of each view. What the second view, the image turned by π, says is turned
    back: R ← Rz(π) R, t ← −t. With `shift_angst` 0 the shifts are those `given` (N, 2) in Å, or zero. `spread` is the
    weight, for each coefficient of an image, of what the batch's views lack to be spread evenly.
    """

    shift_angst: Tensor
    given: Tensor | None

    def __init__(
        self,
        features: int,
        head: HeadName,
        shift_angst: float,
        generator: torch.Generator,
        hypotheses: int = 1,
        given: Tensor | None = None,
        spread: float = 0.0,
    ):
        super().__init__()
        self.spread = spread
        self.numbers, self.rotation_of = HEADS[head]
        self.rotation_head = dense_head(features, self.numbers * hypotheses)
        self.shift_head = dense_head(features, 2 * hypotheses) if shift_angst else None
        self.register_buffer("shift_angst", torch.tensor(float(shift_angst)))
        self.register_buffer("given", given)
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)

    def forward(self, batch: Batch) -> Pose:
        """Poses (B, K, 3, 3) and shifts (B, K, 2) in Å of a batch whose features are there."""
        features = batch.features
        assert features is not None
        b, views = features.shape[:2]
        rotation = self.rotation_of(self.rotation_head(features).view(b, views, -1, self.numbers))
        turn = features.new_ones(views, 3)
        # The second view is turned by π about the beam.
        turn[1:, :2] = -1
        rotation = (turn[:, None, :, None] * rotation).flatten(1, 2)
        if self.shift_head is not None:
            shift = self.shift_angst * torch.tanh(self.shift_head(features).view(b, views, -1, 2))
            shift = (shift * turn[:, None, :2]).flatten(1, 2)
        elif self.given is not None:
            shift = self.given[batch.index.to(self.given.device)][:, None].expand(b, rotation.shape[1], 2)
        else:
            shift = rotation.new_zeros(b, rotation.shape[1], 2)
        return Pose(rotation, shift)

    @property
    def shift_limit(self) -> float:
        """The largest shift in Å, in each direction, that the head can say; 0 where shifts are given."""
        return float(self.shift_angst)

    def penalty(self, batch: Batch, pose: Pose) -> Tensor:
        """spread · P · (‖⟨R⟩‖² + 3 ‖⟨d dᵀ⟩ − I/3‖²) for each particle, d = Rᵀ e_z: zero for views all around.

        Networks start by calling all views one and the same, and a volume learns to look right from there alone.
        """
        rotation = pose.rotation.flatten(0, 1)
        view = rotation[:, 2]
        third = torch.eye(3, device=view.device) / 3
        uneven = rotation.mean(0).square().sum() + 3 * (view.T @ view / len(view) - third).square().sum()
        return (self.spread * len(batch.lattice) * uneven).expand(len(batch))
