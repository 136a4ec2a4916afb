"""Features of places in the unit cube, from grids of parameters: hashed at many resolutions, dense, or three planes."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cryoloom.model.fields.settings import TransformerSettings

# Adam moves every parameter by its rate; features are to move faster than the weights of the layers above them.
GAIN = 10.0
_START = 1e-2
_PRIMES = (1, 2_654_435_761, 805_459_861)


class FeatureGrid(nn.Module, ABC):
    """Features (P, width) at points (P, 3) of the unit cube.

    Where the points lie in the grid is found first, so that it can be kept for points that stay.
    """

    width: int
    table: nn.Parameter

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw all features anew, uniform and small."""
        self.table.copy_((2 * torch.rand(self.table.shape, generator=generator) - 1) * _START)

    def place(self, points: Tensor) -> tuple[Tensor, ...]:
        """Where points (P, 3) lie, P first in each tensor."""
        return (points,)

    @abstractmethod
    def forward(self, *place: Tensor) -> Tensor:
        """Features (P, width) at places."""


class HashGrid(FeatureGrid):
    """L grids from `base` to `finest` cells along an axis, by a constant ratio, each with a table of 2^`log_size` rows.

    A level with more corners than rows finds its rows by a hash: (x ⊕ y·p₂ ⊕ z·p₃) mod 2^`log_size`. Corners of a cell
    are weighted trilinearly, levels stand side by side (Müller et al. 2022).
    """

    cells: Tensor
    offsets: Tensor

    def __init__(self, levels: int, features: int, log_size: int, base: int, finest: int):
        super().__init__()
        self.width, self.rows = levels * features, 2**log_size
        ratio = math.exp(math.log(finest / base) / max(levels - 1, 1))
        self.register_buffer("cells", torch.tensor([int(base * ratio**i + 0.5) for i in range(levels)]))
        axis = torch.arange(2)
        self.register_buffer("offsets", torch.cartesian_prod(axis, axis, axis), persistent=False)
        self.table = nn.Parameter(torch.zeros(levels * self.rows, features))

    def place(self, points: Tensor) -> tuple[Tensor, ...]:
        """Rows of the table and weights (P, 8L) of the corners around points (P, 3)."""
        scaled = points[:, None] * self.cells[:, None].to(points)
        low = torch.minimum(scaled.detach().floor().clamp(min=0).long(), self.cells[:, None] - 1)
        part = (scaled - low)[:, :, None]
        weight = torch.where(self.offsets.bool(), part, 1 - part).prod(-1)
        return self._rows(low[:, :, None] + self.offsets).flatten(1).contiguous(), weight.flatten(1)

    def forward(self, *place: Tensor) -> Tensor:
        """Features (P, L·features) at places."""
        row, weight = place
        features = _WeightedRows.apply(self.table, row.view(-1, 8), weight.view(-1, 8))
        return GAIN * features.view(len(row), -1)

    def _rows(self, corner: Tensor) -> Tensor:
        """Rows (P, L, 8) of the table for corners (P, L, 8, 3)."""
        x, y, z = corner.unbind(-1)
        side = (self.cells + 1)[:, None]
        hashed = (x * _PRIMES[0] ^ y * _PRIMES[1] ^ z * _PRIMES[2]) % self.rows
        row = torch.where(side**3 <= self.rows, x + side * (y + side * z), hashed)
        return row + self.rows * torch.arange(len(self.cells), device=row.device)[:, None]


class _WeightedRows(torch.autograd.Function):
    """Σ_c weight_c table[row_c]: a table (R, F), rows and weights (N, 8) → (N, F).

    `embedding_bag` sorts millions of rows for its gradient; adding each where it belongs is eight times as fast.
    """

    @staticmethod
    def forward(ctx, table: Tensor, row: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(table, row, weight)
        return F.embedding_bag(row, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        table, row, weight = ctx.saved_tensors
        of_table = table.new_zeros(table.shape[::-1])
        flat = row.flatten()
        for column, of_column in zip(of_table, gradient.unbind(1), strict=True):
            column.scatter_add_(0, flat, (weight * of_column[:, None]).flatten())
        of_weight = None
        if ctx.needs_input_grad[2]:
            of_weight = (F.embedding(row, table) @ gradient[..., None])[..., 0]
        return of_table.T, None, of_weight


class DenseGrid(FeatureGrid):
    """One grid of `cells` cells along an axis, interpolated trilinearly."""

    def __init__(self, features: int, cells: int):
        super().__init__()
        self.width = features
        self.table = nn.Parameter(torch.zeros(1, features, *(cells + 1,) * 3))

    def forward(self, *place: Tensor) -> Tensor:
        """Features (P, width) at places."""
        (points,) = place
        places = (2 * points - 1).view(1, -1, 1, 1, 3)
        return GAIN * F.grid_sample(self.table, places, align_corners=True).view(self.width, -1).T


class TriPlane(FeatureGrid):
    """Three planes of `cells` cells along an axis, (x, y), (x, z) and (y, z), whose features stand side by side."""

    def __init__(self, features: int, cells: int):
        super().__init__()
        self.width = 3 * features
        self.table = nn.Parameter(torch.zeros(3, features, cells + 1, cells + 1))

    def forward(self, *place: Tensor) -> Tensor:
        """Features (P, width) at places."""
        (points,) = place
        places = 2 * torch.stack([points[:, [0, 1]], points[:, [0, 2]], points[:, [1, 2]]])[:, :, None] - 1
        features = F.grid_sample(self.table, places, align_corners=True)[..., 0]
        return GAIN * features.flatten(0, 1).T


def build_grid(settings: TransformerSettings, box: int) -> FeatureGrid:
    """The grid that `settings` name, as fine as the voxels of a box."""
    s = settings
    width = s.levels * s.features
    if s.grid == "dense":
        return DenseGrid(width, box)
    if s.grid == "triplane":
        return TriPlane(width, box)
    return HashGrid(s.levels, s.features, s.log_table, s.base, max(box, 2 * s.base))
