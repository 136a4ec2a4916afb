"""Networks with sine layers: SIREN (Sitzmann et al. 2020), and FourierNet, its product with an envelope (cryoAI)."""

import math

import torch
from torch import Tensor, nn

from cryoloom.model.fields.network import FieldNetwork
from cryoloom.model.fields.settings import NetworkSettings
from cryoloom.model.weights import draw_uniform


class Siren(FieldNetwork):
    """x ← sin(ω (W x + b)) for `blocks` + 1 layers, then a linear one: points (B, P, 3), z (B, Z) → (B, P, 2).

    Points end at 0.5 and are doubled, so that the first layer sees the range it was meant for.
    """

    def __init__(self, width: int, blocks: int, omega: float, z_dim: int = 0):
        super().__init__()
        self.omega = omega
        self.first = nn.Linear(3, width)
        self.conformation = nn.Linear(z_dim, width, bias=False) if z_dim else None
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, 2)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew, so that every layer's phases spread alike: ±1/inputs, then ±√(6/inputs)/ω."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                n = layer.in_features
                first = layer is self.first or layer is self.conformation
                draw_uniform(layer, 1 / n if first else math.sqrt(6 / n) / self.omega, generator)

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Two values at each point."""
        # Phases reach tens of radians: bfloat16 would lose them.
        with torch.autocast(points.device.type, enabled=False):
            x = self.first(2 * points)
            if self.conformation is not None and z is not None:
                x = x + self.conformation(z)[:, None]
            x = torch.sin(self.omega * x)
            for block in self.blocks:
                x = torch.sin(self.omega * block(x))
            return self.last(x)


class FourierNet(FieldNetwork):
    """exp(envelope) · modulant of two SIRENs: amplitudes over many orders of magnitude (Levy et al. 2022, § 3.4)."""

    def __init__(self, settings: NetworkSettings, z_dim: int = 0):
        super().__init__()
        blocks = settings.blocks
        self.modulant = Siren(settings.width, blocks, settings.omega * 4 / 3, z_dim)
        self.envelope = Siren(settings.width, max(blocks - 1, 1), settings.omega, z_dim)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        self.modulant.reset(generator)
        self.envelope.reset(generator)

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Two values at each point."""
        return self.modulant(points, z) * torch.exp(self.envelope(points, z))
