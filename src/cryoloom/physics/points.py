"""Projections of a density given at points: its ray integrals as exact sums, without interpolation."""

import math

import torch
from torch import Tensor

from cryoloom.physics.fourier import FrequencyLattice, radii3


def point_spectra(density: Tensor, places: Tensor, k: Tensor, box: int) -> Tensor:
    """Spectra (B, K, P) of densities (B, M) that project to `places` (B, K, M, 2), (x, y) in pixels from the centre.

    Σ_m ρ_m exp(−2πi k·x_m / D) for whole frequencies k (P, 2), kx ≥ 0: the ray integral of point masses and its
    transform in one. The exponential is a product of one factor for x and one for y, so that the sum over points is one
    real matrix product of the cosines and sines of both.
    """
    whole = k.round().long()
    kx, ky = whole[:, 0], whole[:, 1].abs()
    b, hypotheses = places.shape[:2]
    sums = _WaveSums.apply(density, places, int(kx.max()) + 1, int(ky.max()) + 1, box)
    sums = sums.view(b, hypotheses, 2, sums.shape[-2] // 2, 2, -1)
    sign = torch.where(whole[:, 1] < 0, -1.0, 1.0).to(density)
    cos_cos, cos_sin = sums[:, :, 0, kx, 0, ky], sign * sums[:, :, 0, kx, 1, ky]
    sin_cos, sin_sin = sums[:, :, 1, kx, 0, ky], sign * sums[:, :, 1, kx, 1, ky]
    return torch.complex(cos_cos - sin_sin, -(sin_cos + cos_sin))


class _WaveSums(torch.autograd.Function):
    """Σ_m ρ_m X(x_m) Y(y_m)ᵀ for the waves X (2·nx,) and Y (2·ny,): (B, K, 2·nx, 2·ny).

    Waves are made image by image and again on the way back: held for all, they would be 4·D times the densities, and
    slower for it.
    """

    @staticmethod
    def forward(ctx, density: Tensor, places: Tensor, nx: int, ny: int, box: int) -> Tensor:
        ctx.save_for_backward(density, places)
        ctx.sizes = (nx, ny, box)
        sums = density.new_empty(*places.shape[:2], 2 * nx, 2 * ny)
        for i in range(places.shape[0]):
            for j in range(places.shape[1]):
                x, y = places[i, j].unbind(-1)
                torch.mm(_waves(x, nx, box) * density[i], _waves(y, ny, box).T, out=sums[i, j])
        return sums

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        density, places = ctx.saved_tensors
        nx, ny, box = ctx.sizes
        of_density, of_places = torch.zeros_like(density), None
        if ctx.needs_input_grad[1]:
            of_places = torch.empty_like(places)
        for i in range(places.shape[0]):
            for j in range(places.shape[1]):
                gradient = gradients[0][i, j]
                x, y = places[i, j].unbind(-1)
                columns, rows = _waves(x, nx, box), _waves(y, ny, box)
                across = gradient.T @ columns
                of_density[i] += (across * rows).sum(0)
                if of_places is not None:
                    of_places[i, j, :, 0] = _slope(columns, gradient @ rows, box) * density[i]
                    of_places[i, j, :, 1] = _slope(rows, across, box) * density[i]
        return of_density, of_places, None, None, None


def _waves(x: Tensor, n: int, box: int) -> Tensor:
    """cos and sin of 2π k x / D for k = 0 … n − 1, (M,) → (2n, M)."""
    angle = x * (2 * math.pi / box)
    waves = x.new_empty(2, n, len(x))
    waves[0, 0], waves[1, 0] = 1, 0
    made = 1
    while made < n:
        # The waves there are, shifted by `made`: two products each, where a sine costs dozens.
        cos, sin = waves[:, : min(made, n - made)]
        step_cos, step_sin = torch.cos(made * angle), torch.sin(made * angle)
        waves[0, made : 2 * made] = cos * step_cos - sin * step_sin
        waves[1, made : 2 * made] = sin * step_cos + cos * step_sin
        made *= 2
    return waves.view(2 * n, -1)


def _slope(waves: Tensor, of: Tensor, box: int) -> Tensor:
    """Derivative (M,) along x of Σ_j `of`_j waves_j, for waves and `of` (2n, M)."""
    cos, sin = waves.chunk(2)
    of_cos, of_sin = of.chunk(2)
    k = torch.arange(len(cos), device=waves.device, dtype=waves.dtype) * (2 * math.pi / box)
    return k @ (cos * of_sin - sin * of_cos)


def sphere_points(box: int, radius: float) -> Tensor:
    """Voxels (M, 3) of a box D as (x, y, z) from the centre D // 2, inside a sphere of `radius` voxels."""
    inside = torch.nonzero(radii3(box) <= radius)
    return (inside - box // 2).flip(-1).float()


class PointSum:
    """Projections of a real volume (D, D, D) as exact sums over its voxels."""

    def __init__(self, volume: Tensor):
        self.box = volume.shape[-1]
        self.points = sphere_points(self.box, self.box).to(volume.device)
        self.density = volume.flatten()

    def project(self, rotations: Tensor, lattice: FrequencyLattice) -> Tensor:
        """Half-plane spectra (R, P) of the projections at rotations (R, 3, 3)."""
        places = torch.einsum("rij,mj->rmi", rotations[:, :2], self.points)
        density = self.density.expand(len(rotations), -1)
        return point_spectra(density, places[:, None], lattice.k, self.box)[:, 0]
