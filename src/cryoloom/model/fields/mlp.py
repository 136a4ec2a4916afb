"""Positional MLP: a network from Fourier features of a frequency to the volume's Hartley values there (cryoDRGN)."""

import math
from typing import Literal

import torch
from pydantic import BaseModel
from pydantic import Field as Setting
from torch import Tensor, nn

from cryoloom.model.fields.field import FourierField, positive_half
from cryoloom.model.weights import draw_weights

Encoding = Literal["gaussian", "geometric"]


class MLPSettings(BaseModel, extra="forbid"):
    """The positional MLP: its size and how frequencies enter it."""

    width: int = Setting(default=256, gt=0, description="Units of each layer of the network.")
    blocks: int = Setting(default=3, gt=0, description="Residual layers between the first and the last layer.")
    encoding: Encoding = Setting(
        default="gaussian", description="Fourier features: gaussian (random directions) or geometric (along the axes)."
    )
    feature_sigma: float = Setting(
        default=0.5, gt=0, description="Spread of the Gaussian features, in halves of the box per unit frequency."
    )


class ResidualMLP(nn.Module):
    """Input layer, `blocks` layers x ← relu(x + W x + b), output layer: (…, inputs) → (…, outputs)."""

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Values of the last layer."""
        x = torch.relu(self.first(x))
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


def feature_frequencies(settings: MLPSettings, box: int, generator: torch.Generator) -> Tensor:
    """Frequencies (3D/2, 3), radians per unit of the points: N(0, σD/2), or D/2 on each axis from 1 to D/2 by ratio."""
    half = box // 2
    if settings.encoding == "gaussian":
        return torch.randn(3 * half, 3, generator=generator) * settings.feature_sigma * half
    scale = torch.logspace(0, math.log10(half), half)
    return torch.cat([torch.eye(3)[i] * scale[:, None] for i in range(3)])


class MLPField(FourierField):
    """A volume's Fourier transform as a network, evaluated on one half space only.

    V̂(p) = a(|p|) · (E − i·s·O) with (E, O) = network(s·p), s = ±1 so that s·p lies in the half space: E and O are the
    even and odd half of the Hartley values at p and −p. Hermitian symmetry is exact at half the evaluations.
    `amplitude` (D/2 + 1,) is a(|k|) by shell, so that the network's values are of order one.
    Zhong et al. 2021, cryoDRGN.
    """

    amplitude: Tensor

    def __init__(self, box: int, settings: MLPSettings, generator: torch.Generator):
        super().__init__(box)
        features = FourierFeatures(feature_frequencies(settings, box, generator))
        inputs = 2 * len(features.frequencies)
        self.network = nn.Sequential(features, ResidualMLP(inputs, settings.width, settings.blocks, 2))
        self.register_buffer("amplitude", torch.ones(box // 2 + 1))
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew; features and amplitude stay."""
        draw_weights(self, generator)

    def compile_network(self) -> None:
        """Have torch.compile work on the network."""
        self.network.compile()

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """V̂ (B, P), complex, at points (B, P, 3)."""
        half, sign = positive_half(points)
        even, odd = self.network(half).to(points.dtype).unbind(-1)
        gain = self._gain(points)
        return torch.complex(gain * even, -gain * sign * odd)

    def _gain(self, points: Tensor) -> Tensor:
        radius = points.norm(dim=-1) * self.box
        low = radius.detach().floor().long().clamp(max=self.box // 2 - 1)
        part = radius - low
        return self.amplitude[low] * (1 - part) + self.amplitude[low + 1] * part
