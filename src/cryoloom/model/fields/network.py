"""A volume's Fourier transform as a network, whichever it is: Hermitian symmetry and scale are handled here, once."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cryoloom.model.fields.field import FourierField, positive_half


class FieldNetwork(nn.Module, ABC):
    """Two values at each point (B, P, 3), for conformations z (B, Z): (B, P, 2)."""

    fineness: int = 1

    @abstractmethod
    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""

    @abstractmethod
    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Two values at each point."""


class NetworkField(FourierField):
    """A volume's Fourier transform as a network, evaluated on one half space only.

    V̂(p) = a(|p|) · (E − i·s·O) with (E, O) = network(s·p), s = ±1 so that s·p lies in the half space: E and O are the
    even and odd half of the Hartley values at p and −p. Hermitian symmetry is exact at half the evaluations.
    `amplitude` (D/2 + 1,) is a(|k|) by shell, so that the network's values are of order one.
    Zhong et al. 2021, cryoDRGN; Levy et al. 2022, eq. 7.
    """

    amplitude: Tensor

    def __init__(self, box: int, network: FieldNetwork, generator: torch.Generator):
        super().__init__(box)
        self.network = network
        self.register_buffer("amplitude", torch.ones(box // 2 + 1))
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew; features and amplitude stay."""
        self.network.reset(generator)

    @property
    def fineness(self) -> int:
        """Samples from one whole frequency to the next between which the network is linear."""
        return self.network.fineness

    def scale_to(self, amplitude: Tensor) -> None:
        """Take `amplitude` (D/2 + 1,) as the size of the coefficients by shell."""
        self.amplitude.copy_(amplitude)

    def compile_network(self) -> None:
        """Have torch.compile work on the network."""
        self.network.compile()

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """V̂ (B, P), complex, at points (B, P, 3), for conformations z (B, Z)."""
        half, sign = positive_half(points)
        even, odd = self.network(half, z).to(points.dtype).unbind(-1)
        gain = self._gain(points)
        return torch.complex(gain * even, -gain * sign * odd)

    def _gain(self, points: Tensor) -> Tensor:
        radius = points.norm(dim=-1) * self.box
        low = radius.detach().floor().long().clamp(max=self.box // 2 - 1)
        part = radius - low
        return self.amplitude[low] * (1 - part) + self.amplitude[low + 1] * part
