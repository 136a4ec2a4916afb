"""A volume as a density in real space, whose images are its ray integrals: a network asked inside a sphere only."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cryoloom.model.fields.field import Field
from cryoloom.model.fields.transformer import QueryTransformer
from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3
from cryoloom.physics.points import point_spectra, sphere_points

# Densities of a chunk, which stay in a CPU's cache, and of a batch, above which they are computed twice.
DENSITIES_PER_CHUNK = 2**16
DENSITIES_HELD = 2**21


class DensityField(Field):
    """Density `scale` · network(x, z) on the M voxels x within `radius` pixels of the centre, and nothing outside.

    An image is the exact sum over these voxels: they stay where they are when the molecule turns, so what the network
    makes of a place is computed once for all images of a batch, and only what depends on the conformation for each.
    """

    domain = "real"
    scale: Tensor
    voxels: Tensor
    block: Tensor

    def __init__(self, box: int, network: QueryTransformer, radius: float, generator: torch.Generator):
        super().__init__(box)
        self.network = network
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("voxels", sphere_points(box, radius), persistent=False)
        self.register_buffer("block", network.block(self.voxels / box), persistent=False)
        self.places = len(place := network.place(self.voxels / box))
        for i, part in enumerate(place):
            self.register_buffer(f"place_{i}", part, persistent=False)
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew; the scale stays."""
        self.network.reset(generator)

    def scale_to(self, amplitude: Tensor) -> None:
        """Give a network whose values are of order one coefficients as large as `amplitude` (D/2 + 1,) by shell."""
        shells = torch.arange(len(amplitude), device=amplitude.device, dtype=torch.float32)
        power = (shells * amplitude**2).sum() / shells.sum()
        self.scale.copy_((power / len(self.voxels)).sqrt())

    def compile_network(self) -> None:
        """Have torch.compile work on what is done for every conformation at every voxel."""
        self.network.answer = torch.compile(self.network.answer)

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Density (B, P) at points (B, P, 3) in parts of the box, within ±½, for conformations z (B, Z)."""
        return self.scale * self.network(points, z)[..., 0].to(points.dtype)

    def densities(self, z: Tensor | None = None) -> Tensor:
        """Density (B, M) on the voxels, for conformations z (B, Z)."""
        queries, own = self.network.by_block(self.network.queries(z))
        size = max(1, DENSITIES_PER_CHUNK // queries.shape[-1])
        chunks = zip(self.block.split(size), *(part.split(size) for part in self._read()), strict=True)
        # Held for all voxels and particles, what the gradient needs would not fit beside the images.
        again = torch.is_grad_enabled() and len(self.voxels) * queries.shape[-1] > DENSITIES_HELD
        answer = _twice(self.network.answer) if again else self.network.answer
        values = torch.cat([answer(tuple(part), block, queries, own)[:, 0] for block, *part in chunks])
        return self.scale * values.T.to(self.scale.dtype)

    def slices(self, rotations: Tensor, k: Tensor, z: Tensor | None = None) -> Tensor:
        """Spectra (B, K, P) of the ray integrals at rotations (B, K, 3, 3), at in-plane Fourier pixels k (P, 2)."""
        density = self.densities(z).expand(len(rotations), -1)
        # Phases reach tens of radians, and a spectrum is a sum of thousands: bfloat16 would lose both.
        with torch.autocast(density.device.type, enabled=False):
            places = torch.einsum("bkij,mj->bkmi", rotations[..., :2, :], self.voxels)
            return point_spectra(density, places, k, self.box)

    @torch.no_grad()
    def volume(self, band: float | None = None, z: Tensor | None = None) -> Tensor:
        """The map (D, D, D) of one conformation z (Z,), frequencies above `band` Fourier pixels left out."""
        density = self.on_grid(self.densities(None if z is None else z[None])[0])
        kept = radii3(self.box, density.device) <= min(band or self.box, self.box / 2 - 0.5) + 1e-4
        return centred_ifft3(centred_fft3(density) * kept)

    @torch.no_grad()
    def flexibility(self, z: Tensor) -> dict[str, Tensor]:
        """Where conformations z (B, Z) differ: the standard deviation of the density, and of each channel's part in it.

        The channels are those of the queries after region-wise cross-attention, whose sum the density is; the paper
        colours maps by them (Liu et al. 2024, § 4.4).
        """
        queries, own = self.network.by_block(self.network.queries(z))
        size = max(1, DENSITIES_PER_CHUNK // queries.shape[-1])
        chunks = zip(self.block.split(size), *(part.split(size) for part in self._read()), strict=True)
        parts = [self.network.channels(tuple(part), block, queries, own).float() for block, *part in chunks]
        spread = self.on_grid(self.scale * torch.cat([part.std(-1) for part in parts]).T)
        named = {f"attention_{i:02d}": channel for i, channel in enumerate(spread)}
        return {"flexibility": self.on_grid(self.scale * torch.cat([part.sum(1).std(-1) for part in parts]))} | named

    def on_grid(self, values: Tensor) -> Tensor:
        """Values (…, M) of the voxels in their places, (…, D, D, D), zero elsewhere."""
        x, y, z = (self.voxels.long() + self.box // 2).unbind(-1)
        grid = values.new_zeros(*values.shape[:-1], self.box, self.box, self.box)
        grid[..., z, y, x] = values
        return grid

    def _read(self) -> tuple[Tensor, ...]:
        return self.network.read(tuple(self.get_buffer(f"place_{i}") for i in range(self.places)))


def _twice(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, computed again when its gradient is asked for instead of keeping what that needs."""

    def made(*given: Any) -> Tensor:
        value = checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(value, Tensor)
        return value

    return made
