"""Central slices of a Fourier grid by trilinear interpolation, and the adjoint: inserting slices into a grid.

A grid holds the half space kx ≥ 0 of a Hermitian transform: (2M+1, 2M+1, M+1) complex, index (kz+M, ky+M, kx). A slice
samples it at `Rᵀ(kx, ky, 0)`. On a CPU compiled loops do the work (`_kernels`), elsewhere the same formula in torch.
"""

import torch
from torch import Tensor

from cryoloom.physics import _kernels


def slice_points(rotations: Tensor, k: Tensor) -> Tensor:
    """Points (R, P, 3) = Rᵀ(kx, ky, 0) of rotations (R, 3, 3) and in-plane frequencies k (P, 2)."""
    return torch.einsum("rji,pj->rpi", rotations[:, :2], k)


def slice_grid(grid: Tensor, rotations: Tensor, k: Tensor) -> Tensor:
    """Slices (R, P) of a half-space `grid` at rotations (R, 3, 3) and k (P, 2) in grid units, differentiable."""
    _check_reach(k, grid.shape[2] - 1)
    return _Slice.apply(grid, rotations, k)


def slice_grid_with_gradient(grid: Tensor, rotations: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Slices (R, P) and their derivative with respect to the sampled point, (R, P, 3)."""
    _check_reach(k, grid.shape[2] - 1)
    if grid.device.type == "cpu":
        return _kernels.gather_gradient(grid, rotations, k)
    return _gather_gradient(grid, rotations, k)


def sample_grid(grid: Tensor, points: Tensor) -> Tensor:
    """Values (…) of a half-space `grid` at points (…, 3) in grid units, differentiable in both."""
    index, factor, flip = _corners(grid.shape, points)
    return (_conjugate_where(grid.flatten()[index], flip) * factor.prod(-1)).sum(-1)


def _gather_gradient(grid: Tensor, rotations: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    index, factor, flip = _corners(grid.shape, slice_points(rotations, k))
    corner = _conjugate_where(grid.flatten()[index], flip)
    weight, slope = factor.prod(-1), _slopes(factor, flip)
    return (corner * weight).sum(-1), (corner[..., None, :] * slope).sum(-1)


def insert_slices(values: Tensor, weights: Tensor, rotations: Tensor, k: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """Sums of slices spread on a grid of half-width M = `extent`: the adjoint of `slice_grid`; the same for weights.

    values: (R, P) complex; weights: (R, P) real. Returns complex and real grids (2M+1, 2M+1, M+1).
    """
    _check_reach(k, extent)
    if values.device.type == "cpu":
        return _kernels.scatter(values, weights, rotations, k, extent)
    return _scatter(values, weights, rotations, k, extent)


def _scatter(values: Tensor, weights: Tensor, rotations: Tensor, k: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    shape = (2 * extent + 1, 2 * extent + 1, extent + 1)
    index, factor, flip = _corners(torch.Size(shape), slice_points(rotations, k))
    corner_weight = factor.prod(-1)
    size = shape[0] * shape[1] * shape[2]
    spread = _conjugate_where(values[..., None].expand_as(corner_weight), flip) * corner_weight
    total = torch.zeros(size, 2, device=values.device)
    total.index_add_(0, index.flatten(), torch.view_as_real(spread.reshape(-1)))
    density = torch.zeros(size, device=values.device)
    density.index_add_(0, index.flatten(), (weights[..., None] * corner_weight).flatten())
    return torch.view_as_complex(total).view(shape), density.view(shape)


def _conjugate_where(value: Tensor, flip: Tensor) -> Tensor:
    return torch.complex(value.real, torch.where(flip[..., None], -value.imag, value.imag))


def _check_reach(k: Tensor, extent: int) -> None:
    # The compiled loops read no bounds: a frequency outside the grid would read other memory.
    reach = float(k.norm(dim=-1).max()) if len(k) else 0.0
    if reach >= extent:
        raise ValueError(f"frequencies up to {reach:.1f} grid units do not fit a grid of half-width {extent}")


_CORNERS = [[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)]


def _corners(shape: torch.Size, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Flat indices (…, 8) of the cell around each point, its trilinear factors (…, 8, 3), and where kx < 0 (…)."""
    extent = shape[2] - 1
    flip = points[..., 0] < 0
    p = torch.where(flip[..., None], -points, points)
    low = p.floor()
    part = p - low
    corner = torch.tensor(_CORNERS, device=points.device)
    cell = low.long()[..., None, :] + corner
    index = ((cell[..., 2] + extent) * shape[1] + cell[..., 1] + extent) * shape[2] + cell[..., 0]
    factor = torch.where(corner.bool(), part[..., None, :], 1 - part[..., None, :])
    return index, factor, flip


def _slopes(factor: Tensor, flip: Tensor) -> Tensor:
    """Derivatives (…, 3, 8) of the corners' weights along the sampled point."""
    sign = torch.where(flip, -1.0, 1.0)[..., None, None]
    direction = 2.0 * torch.tensor(_CORNERS, device=factor.device) - 1
    x, y, z = factor.unbind(-1)
    slope = torch.stack([direction[:, 0] * y * z, x * direction[:, 1] * z, x * y * direction[:, 2]], -2)
    return slope * sign


class _Slice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grid: Tensor, rotations: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(grid, rotations, k)
        if grid.device.type == "cpu":
            return _kernels.gather(grid.detach(), rotations.detach(), k)
        return sample_grid(grid, slice_points(rotations, k))

    @staticmethod
    def backward(ctx, *upstream: Tensor):
        grid, rotations, k = ctx.saved_tensors
        (grad,) = upstream
        for_grid = for_rotations = None
        if ctx.needs_input_grad[0]:
            for_grid, _ = insert_slices(grad.contiguous(), grad.real.contiguous(), rotations, k, grid.shape[2] - 1)
        if ctx.needs_input_grad[1]:
            _, gradient = slice_grid_with_gradient(grid.detach(), rotations.detach(), k)
            along = (grad[..., None].conj() * gradient).real
            for_plane = torch.einsum("rpi,pj->rji", along, k)
            for_rotations = torch.cat([for_plane, torch.zeros_like(for_plane[:, :1])], 1)
        return for_grid, for_rotations, None
