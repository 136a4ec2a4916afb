"""Query transformer: structure queries of blocks of space take up the conformation, and read features of places."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cryoloom.model.fields.hashgrid import FeatureGrid
from cryoloom.model.fields.network import FieldNetwork
from cryoloom.model.fields.settings import TransformerSettings
from cryoloom.model.weights import draw_weights

_SPATIAL = 64
_HIDDEN = 16
TOKENS = 8


class Attention(nn.Module):
    """softmax(Q Kᵀ / √C) V with Q of x (B, N, C), K and V of a context (B, J, C) (Liu et al. 2024, eq. 4)."""

    def __init__(self, channels: int):
        super().__init__()
        # What is added to all keys changes nothing: they have no bias.
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """What each of x (B or 1, N, C) reads off the context (B, J, C): (B, N, C)."""
        b = len(context)
        # With an axis of heads, though there is one head, the kernel is several times as fast on a CPU.
        query = self.query(x).expand(b, -1, -1)[:, None]
        key, value = self.key(context)[:, None], self.value(context)[:, None]
        return F.scaled_dot_product_attention(query, key, value)[:, 0]


class DeformationBlock(nn.Module):
    """q ← q + Attention(q, q), q ← q + Attention(q, F_D), q ← q + FFN(q) for queries q (B, N, C), each normalised."""

    def __init__(self, channels: int, deformed: bool):
        super().__init__()
        self.own = Attention(channels)
        self.cross = Attention(channels) if deformed else None
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3 if deformed else 2))
        self.ffn = nn.Sequential(nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels))

    def forward(self, q: Tensor, context: Tensor | None) -> Tensor:
        """Queries (B, N, C) for the tokens (B, J, C) of a conformation."""
        x = self.norms[0](q)
        q = q + self.own(x, x)
        if self.cross is not None and context is not None:
            q = q + self.cross(self.norms[1](q), context)
        return q + self.ffn(self.norms[-1](q))


class DeformationAware(nn.Module):
    """Queries (N, C) and z (B, Z) → (B, N, C): z becomes tokens, which the queries of three blocks attend to.

    The paper prints the layer as Attention(Q, F_D, Q), whose shapes do not fit; here F_D gives keys and values.
    """

    def __init__(self, channels: int, z_dim: int, blocks: int):
        super().__init__()
        self.tokens = nn.Linear(z_dim, TOKENS * channels) if z_dim else None
        self.blocks = nn.ModuleList(DeformationBlock(channels, z_dim > 0) for _ in range(blocks))

    def forward(self, queries: Tensor, z: Tensor | None) -> Tensor:
        """Queries (B, N, C) of B conformations; of one where there is no z."""
        context = None if self.tokens is None or z is None else self.tokens(z).view(len(z), TOKENS, -1)
        # Up to the first block's cross-attention the conformation has no part: that is done for one, not for all.
        q = queries[None]
        for block in self.blocks:
            q = block(q, context)
        return q


class DeformationConcatenated(nn.Module):
    """What is left without deformation-aware blocks: queries (N, C) beside z (B, Z), through one layer."""

    def __init__(self, channels: int, z_dim: int):
        super().__init__()
        self.own = nn.Linear(channels, channels)
        self.conformation = nn.Linear(z_dim, channels, bias=False) if z_dim else None

    def forward(self, queries: Tensor, z: Tensor | None) -> Tensor:
        """Queries (B, N, C) of B conformations; of one where there is no z."""
        q = self.own(queries)[None]
        if self.conformation is None or z is None:
            return q
        return q + self.conformation(z)[:, None]


class RegionAttention(nn.Module):
    """Region-wise spatial cross-attention: the query of a place's block against the tokens of the place's feature.

    h = Σ_t softmax_t(q · k_t / √C) v_t + W q, with keys (T, C) and values (H, T) of the feature.

    Liu et al. 2024, eq. 5.
    """

    def __init__(self, spatial: int, channels: int):
        super().__init__()
        self.keys = nn.Linear(spatial, TOKENS * channels)
        self.values = nn.Linear(spatial, TOKENS * _HIDDEN)
        self.query = nn.Linear(channels, _HIDDEN)
        self.scale = channels**-0.5

    def read(self, features: Tensor) -> tuple[Tensor, ...]:
        """Keys (P, T, C) and values (P, H, T) of features (P, S): nothing in them depends on the conformation."""
        keys = self.keys(features).view(len(features), TOKENS, -1)
        return self.scale * keys, self.values(features).view(len(features), _HIDDEN, TOKENS)

    def attention(self, keys: Tensor, queries: Tensor) -> Tensor:
        """How queries (P, C, B) spread over the tokens, (P, T, B)."""
        return torch.softmax(keys @ queries, 1)

    def forward(self, read: tuple[Tensor, ...], queries: Tensor, own: Tensor) -> Tensor:
        """h (P, H, B) for queries (P, C, B), whose part W q is `own` (P, H, B)."""
        keys, values = read
        return torch.baddbmm(own, values, self.attention(keys, queries))


class RegionConcatenated(nn.Module):
    """What is left without region-wise attention: the query beside the feature, through one layer."""

    def __init__(self, spatial: int, channels: int):
        super().__init__()
        self.values = nn.Linear(spatial, _HIDDEN)
        self.query = nn.Linear(channels, _HIDDEN)

    def read(self, features: Tensor) -> tuple[Tensor, ...]:
        """The features' part (P, H)."""
        return (self.values(features),)

    def forward(self, read: tuple[Tensor, ...], queries: Tensor, own: Tensor) -> Tensor:
        """h (P, H, B), `own` (P, H, B) being the queries' part."""
        return own + read[0][..., None]


class QueryTransformer(FieldNetwork):
    """Values at points within ±½: features of a grid, read by the query of the block that a point lies in.

    Space is cut into n³ blocks with one query of C numbers each. outputs: values at a point.
    """

    def __init__(self, grid: FeatureGrid, settings: TransformerSettings, z_dim: int, outputs: int):
        super().__init__()
        s = settings
        self.n, self.grid = s.queries, grid
        self.structure = nn.Parameter(torch.zeros(s.queries**3, s.channels))
        aware = s.deformation == "attention"
        self.deform = (
            DeformationAware(s.channels, z_dim, s.blocks) if aware else DeformationConcatenated(s.channels, z_dim)
        )
        self.spatial = nn.Sequential(nn.Linear(grid.width, _SPATIAL), nn.ReLU())
        region = RegionAttention if s.region == "attention" else RegionConcatenated
        self.region = region(_SPATIAL, s.channels)
        self.last = nn.Linear(_HIDDEN, outputs)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)
        self.grid.reset(generator)
        with torch.no_grad():
            self.structure.copy_(torch.randn(self.structure.shape, generator=generator))
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.reset_parameters()

    def queries(self, z: Tensor | None) -> Tensor:
        """Structure queries (B, N, C) of conformations z (B, Z)."""
        return self.deform(self.structure, z)

    def block(self, points: Tensor) -> Tensor:
        """The block (P,) that each of points (P, 3) lies in."""
        x, y, z = ((points.detach() + 0.5) * self.n).long().clamp(0, self.n - 1).unbind(-1)
        return x + self.n * (y + self.n * z)

    def place(self, points: Tensor) -> tuple[Tensor, ...]:
        """Where points (P, 3) lie in the grid."""
        return self.grid.place(points + 0.5)

    def read(self, place: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What is to be known of places before any conformation is."""
        with torch.autocast(place[0].device.type, enabled=False):
            features = self.grid(*place)
        return self.region.read(self.spatial(features))

    def by_block(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, N, C), and what they add to h themselves, by block: (N, C, B) and (N, H, B)."""
        # The particles stand last: what is done for each of them alike then runs through memory in order.
        own = self.region.query(queries)
        return queries.permute(1, 2, 0).contiguous(), own.permute(1, 2, 0).contiguous()

    def answer(self, read: tuple[Tensor, ...], block: Tensor, queries: Tensor, own: Tensor) -> Tensor:
        """Values (P, outputs, B) at points that were `read`, in blocks (P,), for queries sorted `by_block`."""
        h = torch.relu(self.region(read, queries.index_select(0, block), own.index_select(0, block)))
        return torch.baddbmm(self.last.bias[:, None], self.last.weight.expand(len(block), -1, -1), h)

    def channels(self, read: tuple[Tensor, ...], block: Tensor, queries: Tensor, own: Tensor) -> Tensor:
        """What each channel adds to the first value: (P, H, B), whose sum over H is `answer` less a constant."""
        h = torch.relu(self.region(read, queries.index_select(0, block), own.index_select(0, block)))
        return self.last.weight[0, :, None] * h

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Values (B, P, outputs) at points (B, P, 3), for conformations z (B, Z)."""
        b, p = points.shape[:2]
        flat = points.reshape(-1, 3)
        queries = self.queries(z).expand(b, -1, -1)
        # Every point has a conformation of its own: the blocks of all particles stand one after the other.
        particle = torch.arange(b, device=flat.device).repeat_interleave(p)
        block = self.block(flat) + particle * queries.shape[1]
        sorted_queries = self.by_block(queries.reshape(1, -1, queries.shape[-1]))
        return self.answer(self.read(self.place(flat)), block, *sorted_queries).view(b, p, -1)
