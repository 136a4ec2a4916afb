"""Poses read off the images by a network: six numbers to a rotation, two to a shift, for each of K hypotheses."""

import torch
from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.model.encoders import ConvolutionalEncoder
from cryoloom.model.weights import draw_weights
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import matrix_from_6d


class PoseRegressor(nn.Module):
    """An encoder with a head for S2×S2 (Gram–Schmidt of two vectors) and one for shifts of up to `shift_angst`."""

    shift_angst: Tensor

    def __init__(
        self, encoder: ConvolutionalEncoder, shift_angst: float, generator: torch.Generator, hypotheses: int = 1
    ):
        super().__init__()
        self.encoder, self.hypotheses = encoder, hypotheses
        self.rotation_head = nn.Linear(encoder.features, 6 * hypotheses)
        self.shift_head = nn.Linear(encoder.features, 2 * hypotheses)
        self.register_buffer("shift_angst", torch.tensor(float(shift_angst)))
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)

    def forward(self, batch: Batch) -> Pose:
        """Poses (B, K, 3, 3) and shifts (B, K, 2) in Å of a batch."""
        features = self.encoder(batch)
        rotation = matrix_from_6d(self.rotation_head(features).view(-1, self.hypotheses, 6))
        shift = self.shift_angst * torch.tanh(self.shift_head(features).view(-1, self.hypotheses, 2))
        return Pose(rotation, shift)
