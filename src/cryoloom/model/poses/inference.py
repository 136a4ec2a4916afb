"""What every model of poses is to a gradient fit."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.physics.pose import Pose


class PoseModel(nn.Module, ABC):
    """A part that says where the particles of a batch are, and what it holds against straying."""

    @abstractmethod
    def forward(self, batch: Batch) -> Pose:
        """Poses (B, K, 3, 3) and shifts (B, K, 2) in Å of a batch."""

    @property
    def shift_limit(self) -> float:
        """The largest shift in Å, in each direction, that the model can say; nothing unless a model says otherwise."""
        return 0.0

    def penalty(self, batch: Batch, pose: Pose) -> Tensor:
        """What the objective adds for each particle (B,), in nats; nothing unless a model says otherwise."""
        return pose.shift.new_zeros(len(batch))
