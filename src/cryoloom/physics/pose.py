"""The pose of a particle: how the molecule was turned and where it lay in the image."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pose(NamedTuple):
    """K pose hypotheses for each of B particles: `x_image = R · x_volume`, then moved by `shift`.

    rotation: (B, K, 3, 3), acting on (x, y, z). shift: (B, K, 2) in Å, (x, y); moves the projection.
    """

    rotation: Tensor
    shift: Tensor

    @classmethod
    def single(cls, rotation: Tensor, shift: Tensor | None = None) -> "Pose":
        """One hypothesis a particle, from rotations (B, 3, 3) and shifts (B, 2) in Å (none: zero)."""
        if shift is None:
            shift = rotation.new_zeros(len(rotation), 2)
        return cls(rotation[:, None], shift[:, None])

    @property
    def best_rotation(self) -> Tensor:
        """Rotation (B, 3, 3) of the first hypothesis, which is the best one by convention."""
        return self.rotation[:, 0]

    @property
    def best_shift(self) -> Tensor:
        """Shift (B, 2) in Å of the first hypothesis."""
        return self.shift[:, 0]

    def select(self, index: Tensor) -> "Pose":
        """The poses of the particles at `index`, shape (b,)."""
        return Pose(self.rotation[index], self.shift[index])

    @classmethod
    def concatenate(cls, poses: "list[Pose]") -> "Pose":
        """Poses of several batches, one after the other."""
        return cls(torch.cat([p.rotation for p in poses]), torch.cat([p.shift for p in poses]))
