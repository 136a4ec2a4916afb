"""Projectors: a volume's spectrum on the central slice of a pose, or the ray integral of its density."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoloom.physics.fourier import FrequencyLattice, centred_half_fft3, centred_ifft3
from cryoloom.physics.interpolate import insert_slices, slice_grid, slice_grid_with_gradient


def gridding_correction(box: int, pad: int, device: torch.device | str = "cpu") -> Tensor:
    """Real-space fall-off (D, D, D) of trilinear interpolation on a `pad`-fold finer grid: Π sinc²(x / (pad·D))."""
    x = torch.arange(box, device=device, dtype=torch.float32) - box // 2
    axis = torch.sinc(x / (pad * box)) ** 2
    return axis[:, None, None] * axis[None, :, None] * axis[None, None, :]


def _pad_volume(volume: Tensor, box: int) -> Tensor:
    start = box // 2 - volume.shape[-1] // 2
    end = box - volume.shape[-1] - start
    return torch.nn.functional.pad(volume, (start, end) * 3)


@dataclass(frozen=True)
class FourierSlice:
    """Central slices of a volume's Fourier transform, sampled `pad` times finer than the box up to `band` pixels."""

    grid: Tensor
    box: int
    pad: int
    band: float

    @classmethod
    def of_volume(cls, volume: Tensor, pad: int = 2, band: float | None = None) -> "FourierSlice":
        """Projector of a real volume (D, D, D), corrected beforehand for the interpolation's fall-off."""
        box = volume.shape[-1]
        band = box / 2 if band is None else min(band, box / 2)
        padded = _pad_volume(volume / gridding_correction(box, pad, volume.device), pad * box)
        spectrum = centred_half_fft3(padded)
        extent, centre = grid_extent(band, pad), pad * box // 2
        missing = max(0, extent + 1 - centre)
        spectrum = torch.nn.functional.pad(spectrum, (0, missing) * 3)
        span = slice(max(0, centre - extent), centre + extent + 1)
        grid = spectrum[span, span, : extent + 1]
        short = 2 * extent + 1 - grid.shape[0]
        grid = torch.nn.functional.pad(grid, (0, 0, short, 0, short, 0))
        return cls(grid.contiguous(), box, pad, band)

    def project(self, rotations: Tensor, lattice: FrequencyLattice) -> Tensor:
        """Half-plane spectra (R, P) of the projections at rotations (R, 3, 3): `V̂(Rᵀ(kx, ky, 0))`."""
        return slice_grid(self.grid, rotations, lattice.k * self.pad)

    def project_with_gradient(self, rotations: Tensor, lattice: FrequencyLattice) -> tuple[Tensor, Tensor]:
        """Spectra (R, P) and their derivatives (R, P, 3) along the sampled frequency in Fourier pixels."""
        value, gradient = slice_grid_with_gradient(self.grid, rotations, lattice.k * self.pad)
        return value, gradient * self.pad


def grid_extent(band: float, pad: int) -> int:
    """Half-width M of the grid of frequencies up to `band` at `pad`-fold sampling, with a rim for interpolation."""
    return math.ceil(band * pad) + 2


def volume_of_grid(grid: Tensor, box: int, pad: int) -> Tensor:
    """Real volume (D, D, D) of a half-space Fourier grid, corrected for the fall-off of inserting slices."""
    extent = grid.shape[-1] - 1
    full = torch.cat([grid[..., 1:].flip((0, 1, 2)).conj(), grid], -1)
    size = pad * box
    centre, keep = size // 2, min(extent, pad * box // 2 - 1)
    inner = slice(extent - keep, extent + keep + 1)
    padded = full.new_zeros(size, size, size)
    outer = slice(centre - keep, centre + keep + 1)
    padded[outer, outer, outer] = full[inner, inner, inner]
    volume = centred_ifft3(padded)
    span = slice(centre - box // 2, centre - box // 2 + box)
    return volume[span, span, span] / gridding_correction(box, pad, grid.device)


def backproject(
    spectra: Tensor, weights: Tensor, rotations: Tensor, lattice: FrequencyLattice, pad: int, band: float
) -> tuple[Tensor, Tensor]:
    """Insert spectra (R, P) and weights (R, P) as slices in a grid up to `band`: adjoint of `FourierSlice.project`."""
    return insert_slices(spectra, weights, rotations, lattice.k * pad, grid_extent(band, pad))


def hermitian(grid: Tensor) -> Tensor:
    """A half-space grid of sums with the plane kx = 0 completed by its conjugate mirror, which inserting leaves out."""
    plane = grid[..., 0]
    completed = grid.clone()
    completed[..., 0] = plane + plane.flip((0, 1)).conj()
    return completed


class RayIntegral:
    """Projections of a real density: the volume is turned by trilinear interpolation and summed along z."""

    def __init__(self, volume: Tensor):
        self.volume = volume
        box = volume.shape[-1]
        axis = torch.arange(box, device=volume.device, dtype=torch.float32) - box // 2
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        self.points = torch.stack([x, y, z], -1)

    def project(self, rotations: Tensor) -> Tensor:
        """Images (R, D, D) of the projections along z after `x_image = R x_volume`, rotations (R, 3, 3)."""
        box = self.volume.shape[-1]
        source = torch.einsum("rji,zyxj->rzyxi", rotations, self.points)
        normalised = (source + box // 2) * (2 / (box - 1)) - 1
        volumes = self.volume.expand(len(rotations), 1, box, box, box)
        turned = torch.nn.functional.grid_sample(volumes, normalised, align_corners=True)
        return turned[:, 0].sum(1)
