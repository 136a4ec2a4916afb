"""Positional MLP: a network from Fourier features of a frequency to the volume's Hartley values there (cryoDRGN)."""

import math

import torch
from torch import Tensor, nn

from cryoloom.model.fields.network import FieldNetwork
from cryoloom.model.fields.settings import NetworkSettings
from cryoloom.model.weights import draw_weights


class ResidualMLP(nn.Module):
    """First layer, `blocks` layers x ← relu(x + W x + b), last layer: (B, P, inputs) → (B, P, outputs).

    A conformation z (B, Z) enters the first layer through weights of its own: W (x, z) = W_x x + W_z z.
    """

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int, z_dim: int = 0):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.conformation = nn.Linear(z_dim, width, bias=False) if z_dim else None
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Values of the last layer."""
        x = self.first(x)
        if self.conformation is not None and z is not None:
            x = x + self.conformation(z)[:, None]
        x = torch.relu(x)
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.last(x)


class FourierFeatures(nn.Module):
    """sin and cos of f · p for points p (…, 3): (…, 2F) (Tancik et al. 2020)."""

    frequencies: Tensor

    def __init__(self, frequencies: Tensor):
        super().__init__()
        self.register_buffer("frequencies", frequencies)

    def forward(self, points: Tensor) -> Tensor:
        """Features of points."""
        # Phases reach tens of radians: bfloat16 would lose them.
        with torch.autocast(points.device.type, enabled=False):
            phase = points @ self.frequencies.T
        return torch.cat([torch.sin(phase), torch.cos(phase)], -1)


def feature_frequencies(settings: NetworkSettings, box: int, generator: torch.Generator) -> Tensor:
    """Frequencies (3D/2, 3), radians per unit of the points: N(0, σD/2), or D/2 on each axis from 1 to D/2 by ratio."""
    half = box // 2
    if settings.encoding == "gaussian":
        return torch.randn(3 * half, 3, generator=generator) * settings.feature_sigma * half
    scale = torch.logspace(0, math.log10(half), half)
    return torch.cat([torch.eye(3)[i] * scale[:, None] for i in range(3)])


class PositionalMLP(FieldNetwork):
    """Fourier features, then a residual MLP: points (B, P, 3), z (B, Z) → (B, P, 2) (Zhong et al. 2021)."""

    def __init__(self, box: int, z_dim: int, settings: NetworkSettings, generator: torch.Generator):
        super().__init__()
        self.features = FourierFeatures(feature_frequencies(settings, box, generator))
        inputs = 2 * len(self.features.frequencies)
        self.mlp = ResidualMLP(inputs, settings.width, settings.blocks, 2, z_dim)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew; the features stay."""
        draw_weights(self, generator)

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Two values at each point."""
        return self.mlp(self.features(points), z)
