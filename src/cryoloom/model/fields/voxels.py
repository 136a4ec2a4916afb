"""Voxels in real space: one transform a batch, then central slices of it (CryoPoseNet)."""

import torch
from torch import Tensor, nn

from cryoloom.model.fields.field import FourierField, positive_half
from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3
from cryoloom.physics.interpolate import sample_grid, slice_grid
from cryoloom.physics.project import FourierSlice

PAD = 2


class VoxelField(FourierField):
    """A volume as D³ real voxels, `scale` times the parameters, its transform interpolated on a `PAD`-fold finer grid.

    The start is uniform and random, as in Nashed et al. 2021; no conformation.
    """

    scale: Tensor

    def __init__(self, box: int, generator: torch.Generator):
        super().__init__(box)
        self.density = nn.Parameter(torch.zeros(box, box, box))
        self.register_buffer("scale", torch.ones(()))
        self.reset(generator)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw all voxels anew, uniform within ±1/2."""
        self.density.copy_(torch.rand(self.density.shape, generator=generator) - 0.5)

    def scale_to(self, amplitude: Tensor) -> None:
        """Make the coefficients of the random start as large as `amplitude` (D/2 + 1,) by shell is in the mean."""
        shells = torch.arange(len(amplitude), device=amplitude.device, dtype=torch.float32)
        power = (shells * amplitude**2).sum() / shells.sum()
        self.scale.copy_((12 * power / self.box**3).sqrt())

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """V̂ (B, P), complex, at points (B, P, 3)."""
        half, sign = positive_half(points)
        value = sample_grid(self._grid(self.box / 2), half * (PAD * self.box))
        return torch.complex(value.real, sign * value.imag)

    def slices(self, rotations: Tensor, k: Tensor, z: Tensor | None = None) -> Tensor:
        """Central slices (B, K, P) at rotations (B, K, 3, 3) and in-plane frequencies k (P, 2)."""
        grid = self._grid(float(k.norm(dim=-1).max()))
        return slice_grid(grid, rotations.flatten(0, 1), k * PAD).view(*rotations.shape[:2], len(k))

    def volume(self, band: float | None = None, z: Tensor | None = None) -> Tensor:
        """The map (D, D, D), frequencies above `band` Fourier pixels left out."""
        spectrum = centred_fft3(self.density * self.scale)
        kept = radii3(self.box, spectrum.device) <= min(band or self.box, self.box / 2 - 0.5) + 1e-4
        return centred_ifft3(spectrum * kept)

    def _grid(self, band: float) -> Tensor:
        with torch.autocast(self.density.device.type, enabled=False):
            return FourierSlice.of_volume(self.density * self.scale, PAD, band).grid
