"""Feature grid: complex maps on a dense grid of frequencies, mixed by a small network of the conformation."""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from cryoloom.model.fields.field import half_space
from cryoloom.model.fields.network import FieldNetwork
from cryoloom.model.fields.settings import NetworkSettings
from cryoloom.model.weights import draw_weights

# The molecule fills the box: its transform must be sampled twice as finely as whole frequencies to be interpolated.
_PAD = 2
# Adam moves every number by about its rate. Values this many times the numbers learn well at a network's rate.
_GAIN = 16.0
_START = 0.02


class FeatureGrid(FieldNetwork):
    """Σ_c w_c(z) G_c(p): C maps of even and odd values, interpolated linearly; points (B, P, 3), z (B, Z) → (B, P, 2).

    w_1 = 1 and the others are A z + MLP(z), so that the mean is one map and z moves along a curved path in the space
    of the others. A point costs eight rows of memory instead of a network. With no z there is one map.
    """

    fineness = _PAD
    corner: Tensor

    def __init__(self, box: int, z_dim: int, settings: NetworkSettings, generator: torch.Generator):
        super().__init__()
        self.box = box
        self.channels = settings.channels if z_dim else 1
        reach = _PAD * box // 2 + 1
        self.size = (reach + 1, 2 * reach + 1, 2 * reach + 1)
        k = half_space(2 * (reach + 1), float(reach)).long()
        rows = torch.zeros(self.size, dtype=torch.long)
        # Row 0 stands for all frequencies beyond the band.
        rows[k[:, 0], k[:, 1] + reach, k[:, 2] + reach] = torch.arange(1, len(k) + 1)
        self.register_buffer("corner", rows.flatten())
        self.maps = nn.Parameter(torch.zeros(len(k) + 1, 2 * self.channels))
        mixed = self.channels - 1
        self.linear = nn.Linear(z_dim, mixed, bias=False) if z_dim else None
        width = max(16, settings.width // 4)
        self.mixing = None
        if z_dim:
            layers = (nn.Linear(z_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, mixed))
            self.mixing = nn.Sequential(*layers)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)
        self.maps.copy_(torch.randn(self.maps.shape, generator=generator) * (_START / _GAIN))
        if self.linear is not None:
            self.linear.weight.copy_(torch.randn(self.linear.weight.shape, generator=generator))

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Two values at each point."""
        # Places on the grid must stay exact, whatever precision the rest computes in.
        with torch.autocast(points.device.type, enabled=False):
            values = self._interpolated(points).unflatten(-1, (self.channels, 2))
            if self.mixing is None or self.linear is None:
                return _GAIN * values[..., 0, :]
            if z is None:
                z = points.new_zeros(len(points), self.linear.in_features)
            z = z.to(points.dtype)
            weight = self.linear(z) + self.mixing(z)
            weight = torch.cat([weight.new_ones(len(weight), 1), weight], 1)
            return _GAIN * torch.einsum("bpcv,bc->bpv", values, weight)

    def _interpolated(self, points: Tensor) -> Tensor:
        """Rows of the maps (B, P, 2C) between the eight around each point of the half space."""
        nx, ny, nz = self.size
        place = points * (_PAD * self.box) + points.new_tensor([0.0, ny // 2, nz // 2])
        low = place.detach().floor()
        part = place - low
        corner = low.long()
        index, weight = [], []
        for i in range(8):
            step = (i & 1, (i >> 1) & 1, i >> 2)
            x, y, z = ((corner[..., a] + step[a]).clamp(0, n - 1) for a, n in enumerate((nx, ny, nz)))
            index.append((x * ny + y) * nz + z)
            sides = [part[..., a] if step[a] else 1 - part[..., a] for a in range(3)]
            weight.append(sides[0] * sides[1] * sides[2])
        rows = self.corner[torch.stack(index, -1)].flatten(0, -2)
        weights = torch.stack(weight, -1).flatten(0, -2)
        values = embedding_bag(rows, self.maps, mode="sum", per_sample_weights=weights)
        return values.view(*points.shape[:-1], -1)
