"""Poses that are given, and what a network that sees the image makes of them (CryoFormer)."""

import torch
from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.model.poses.inference import PoseModel
from cryoloom.model.weights import draw_weights
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import matrix_from_6d


class OrientationEncoder(PoseModel):
    """R = G(e + a) R₀, t = t₀ + s·b: eight numbers (a, b) read off an image and its given pose (R₀, t₀) move that pose.

    G is the Gram–Schmidt basis of two vectors, e that of the identity, s = `shift_angst`. The penalty is
    w (‖R − R₀‖ / 9 + ‖t − t₀‖₁ / 2s) nats for each image (Liu et al. 2024, eq. 2; there poses are read off the image
    alone, which asks for more images than the correction of a pose does).
    """

    rotation: Tensor
    shift: Tensor

    def __init__(
        self, settings: EncoderSettings, start: Pose, shift_angst: float, weight: float, generator: torch.Generator
    ):
        super().__init__()
        self.shift_angst, self.weight = shift_angst, weight
        self.encoder = Encoder(settings, 1, generator)
        f = settings.features
        self.head = nn.Sequential(nn.Linear(f + 11, f), nn.ReLU(), nn.Linear(f, 8))
        self.register_buffer("rotation", start.best_rotation.clone())
        self.register_buffer("shift", start.best_shift.clone())
        draw_weights(self.head, generator)

    def given(self, batch: Batch) -> Pose:
        """The poses (B, 3, 3) and shifts (B, 2) in Å to start from."""
        index = batch.index.to(self.rotation.device)
        return Pose(self.rotation[index], self.shift[index])

    def forward(self, batch: Batch) -> Pose:
        """Poses (B, 1, 3, 3) and shifts (B, 1, 2) in Å of a batch."""
        rotation, shift = self.given(batch)
        seen = [self.encoder(batch)[:, 0], rotation.flatten(1), shift / self.shift_angst]
        turn, move = self.head(torch.cat(seen, -1)).split((6, 2), -1)
        turned = matrix_from_6d(turn + torch.eye(3, device=turn.device)[:2].flatten()) @ rotation
        return Pose.single(turned, shift + self.shift_angst * move)

    def penalty(self, batch: Batch, pose: Pose) -> Tensor:
        """What straying from the given poses costs, (B,) nats."""
        rotation, shift = self.given(batch)
        strayed = torch.linalg.matrix_norm(pose.best_rotation - rotation) / 9
        return self.weight * (strayed + (pose.best_shift - shift).abs().sum(-1) / (2 * self.shift_angst))
