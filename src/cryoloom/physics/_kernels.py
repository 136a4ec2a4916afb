"""Compiled CPU loops of `interpolate`: one pass over the samples, nothing stored in between.

Slices are independent, so gathering runs over slices in parallel; scattering gives each thread its own grid and a fixed
share of the slices, so that sums do not depend on timing.
"""

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from cryoloom.errors import InputError


def gather(grid: Tensor, rotations: Tensor, k: Tensor) -> Tensor:
    """Slices (R, P) complex64; see `interpolate.slice_grid`."""
    check_rotations(rotations, k, grid.shape[-1] - 1)
    out = torch.empty(len(rotations), len(k), 2)
    _gather(_pairs(grid), _float(rotations), _float(k), out.numpy())
    return torch.view_as_complex(out)


def gather_gradient(grid: Tensor, rotations: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Slices (R, P) and gradients (R, P, 3), complex64; see `interpolate.slice_grid_with_gradient`."""
    check_rotations(rotations, k, grid.shape[-1] - 1)
    out = torch.empty(len(rotations), len(k), 4, 2)
    _gather_gradient(_pairs(grid), _float(rotations), _float(k), out.numpy())
    values = torch.view_as_complex(out)
    return values[..., 0], values[..., 1:]


def scatter(values: Tensor, weights: Tensor, rotations: Tensor, k: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """Grids of summed slices and weights; see `interpolate.insert_slices`."""
    check_rotations(rotations, k, extent)
    threads = get_num_threads()
    out = np.zeros((threads, 2 * extent + 1, 2 * extent + 1, extent + 1, 3), np.float32)
    _scatter(_pairs(values), _float(weights), _float(rotations), _float(k), out)
    total = torch.from_numpy(out.sum(0))
    return torch.view_as_complex(total[..., :2].contiguous()), total[..., 2].contiguous()


def check_rotations(rotations: Tensor, k: Tensor, extent: float) -> None:
    """Raise InputError where a slice at k (P, 2) and rotations (R, 3, 3) would leave a grid of an extent, or is NaN.

    The compiled loops read and write without looking.
    """
    if not len(rotations) or not len(k):
        return
    longest = float(rotations[:, :2].square().sum(1).max().sqrt()) * float(k.square().sum(-1).max().sqrt())
    if not longest <= extent - 1:
        raise InputError(
            "The orientations are not finite any more, or no rotations: an image or a setting made numbers overflow. "
            "`cryoloom info --all-images` finds images that cannot be used."
        )


def _pairs(x: Tensor) -> np.ndarray:
    return torch.view_as_real(x.detach().to(torch.complex64).resolve_conj().contiguous()).numpy()


def _float(x: Tensor) -> np.ndarray:
    return x.detach().float().contiguous().numpy()


@njit(parallel=True, fastmath=True, cache=True)
def _gather(grid, rotations, k, out):
    depth, height, width = grid.shape[0], grid.shape[1], grid.shape[2]
    extent = width - 1
    cells = grid.reshape(depth * height * width, 2)
    row, plane = np.uint64(width), np.uint64(height * width)
    one = np.uint64(1)
    for r in prange(rotations.shape[0]):
        a = rotations[r]
        for p in range(k.shape[0]):
            x = a[0, 0] * k[p, 0] + a[1, 0] * k[p, 1]
            y = a[0, 1] * k[p, 0] + a[1, 1] * k[p, 1]
            z = a[0, 2] * k[p, 0] + a[1, 2] * k[p, 1]
            sign = np.float32(-1.0) if x < 0 else np.float32(1.0)
            x, y, z = x * sign, y * sign + np.float32(extent), z * sign + np.float32(extent)
            i, j, m = np.uint32(x), np.uint32(y), np.uint32(z)
            fx, fy, fz = x - np.float32(i), y - np.float32(j), z - np.float32(m)
            gy, gz = np.float32(1) - fy, np.float32(1) - fz
            q = np.uint64(m) * plane + np.uint64(j) * row + np.uint64(i)
            for c in range(2):
                a00, b00 = cells[q, c], cells[q + one, c]
                a01, b01 = cells[q + row, c], cells[q + row + one, c]
                a10, b10 = cells[q + plane, c], cells[q + plane + one, c]
                a11, b11 = cells[q + plane + row, c], cells[q + plane + row + one, c]
                low = (a00 + (b00 - a00) * fx) * gy + (a01 + (b01 - a01) * fx) * fy
                high = (a10 + (b10 - a10) * fx) * gy + (a11 + (b11 - a11) * fx) * fy
                value = low * gz + high * fz
                out[r, p, c] = value if c == 0 else value * sign


@njit(parallel=True, fastmath=True, cache=True)
def _gather_gradient(grid, rotations, k, out):
    depth, height, width = grid.shape[0], grid.shape[1], grid.shape[2]
    extent = width - 1
    cells = grid.reshape(depth * height * width, 2)
    row, plane = np.uint64(width), np.uint64(height * width)
    one = np.uint64(1)
    for r in prange(rotations.shape[0]):
        a = rotations[r]
        for p in range(k.shape[0]):
            x = a[0, 0] * k[p, 0] + a[1, 0] * k[p, 1]
            y = a[0, 1] * k[p, 0] + a[1, 1] * k[p, 1]
            z = a[0, 2] * k[p, 0] + a[1, 2] * k[p, 1]
            sign = np.float32(-1.0) if x < 0 else np.float32(1.0)
            x, y, z = x * sign, y * sign + np.float32(extent), z * sign + np.float32(extent)
            i, j, m = np.uint32(x), np.uint32(y), np.uint32(z)
            fx, fy, fz = x - np.float32(i), y - np.float32(j), z - np.float32(m)
            gy, gz = np.float32(1) - fy, np.float32(1) - fz
            q = np.uint64(m) * plane + np.uint64(j) * row + np.uint64(i)
            for c in range(2):
                a00, a01, a10, a11 = cells[q, c], cells[q + row, c], cells[q + plane, c], cells[q + plane + row, c]
                d00, d01 = cells[q + one, c] - a00, cells[q + row + one, c] - a01
                d10, d11 = cells[q + plane + one, c] - a10, cells[q + plane + row + one, c] - a11
                v00, v01, v10, v11 = a00 + d00 * fx, a01 + d01 * fx, a10 + d10 * fx, a11 + d11 * fx
                low, high = v00 * gy + v01 * fy, v10 * gy + v11 * fy
                # f(p) = conj(f(−p)): the real part's slope and the imaginary part's value change sign.
                value_sign = np.float32(1.0) if c == 0 else sign
                slope_sign = sign if c == 0 else np.float32(1.0)
                out[r, p, 0, c] = (low * gz + high * fz) * value_sign
                out[r, p, 1, c] = ((d00 * gy + d01 * fy) * gz + (d10 * gy + d11 * fy) * fz) * slope_sign
                out[r, p, 2, c] = ((v01 - v00) * gz + (v11 - v10) * fz) * slope_sign
                out[r, p, 3, c] = (high - low) * slope_sign


@njit(parallel=True, fastmath=True, cache=True)
def _scatter(values, weights, rotations, k, out):
    threads, depth, height, width = out.shape[0], out.shape[1], out.shape[2], out.shape[3]
    extent = width - 1
    n = rotations.shape[0]
    row, plane = np.uint64(width), np.uint64(height * width)
    for t in prange(threads):
        cells = out[t].reshape(depth * height * width, 3)
        for r in range(n * t // threads, n * (t + 1) // threads):
            a = rotations[r]
            for p in range(k.shape[0]):
                x = a[0, 0] * k[p, 0] + a[1, 0] * k[p, 1]
                y = a[0, 1] * k[p, 0] + a[1, 1] * k[p, 1]
                z = a[0, 2] * k[p, 0] + a[1, 2] * k[p, 1]
                sign = np.float32(-1.0) if x < 0 else np.float32(1.0)
                re, im, weight = values[r, p, 0], values[r, p, 1] * sign, weights[r, p]
                x, y, z = x * sign, y * sign + np.float32(extent), z * sign + np.float32(extent)
                i, j, m = np.uint32(x), np.uint32(y), np.uint32(z)
                fx, fy, fz = x - np.float32(i), y - np.float32(j), z - np.float32(m)
                q = np.uint64(m) * plane + np.uint64(j) * row + np.uint64(i)
                for corner in range(8):
                    dx, dy, dz = np.uint64(corner & 1), np.uint64(corner >> 1 & 1), np.uint64(corner >> 2)
                    w = (fx if dx else np.float32(1) - fx) * (fy if dy else np.float32(1) - fy)
                    w *= fz if dz else np.float32(1) - fz
                    cell = q + dz * plane + dy * row + dx
                    cells[cell, 0] += w * re
                    cells[cell, 1] += w * im
                    cells[cell, 2] += w * weight
