"""Compiled CPU loop of `polish`: likelihood, gradient and Fisher information of a pose in one pass."""

import math

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from cryoloom.physics._kernels import check_rotations


def curvature(
    grid: Tensor, pad: int, weighted: Tensor, power: Tensor, k: Tensor, box: int, rotation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (b, K), gradients (b, K, 5) and Fisher information (b, K, 5, 5); see `polish.curvature`."""
    check_rotations(rotation.reshape(-1, 3, 3), k * pad, grid.shape[-1] - 1)
    b, n = shift.shape[:2]
    out = np.empty((b * n, 21), np.float32)
    _curvature(
        torch.view_as_real(grid).numpy(),
        np.float32(pad),
        torch.view_as_real(weighted.resolve_conj().contiguous()).numpy(),
        power.contiguous().numpy(),
        k.contiguous().numpy(),
        box,
        rotation.reshape(-1, 3, 3).contiguous().numpy(),
        shift.reshape(-1, 2).contiguous().numpy(),
        out,
    )
    values = torch.from_numpy(out).view(b, n, 21)
    fisher = values.new_empty(b, n, 5, 5)
    row, column = torch.tril_indices(5, 5)
    fisher[..., row, column] = values[..., 6:]
    fisher[..., column, row] = values[..., 6:]
    return values[..., 0], values[..., 1:6], fisher


@njit(parallel=True, fastmath=True, cache=True)
def _curvature(grid, pad, weighted, power, k, box, rotations, shifts, out):
    depth, height, width = grid.shape[0], grid.shape[1], grid.shape[2]
    extent = np.float32(width - 1)
    cells = grid.reshape(depth * height * width, 2)
    row, plane, one = np.uint64(width), np.uint64(height * width), np.uint64(1)
    per_particle = rotations.shape[0] // weighted.shape[0]
    step = np.float32(2 * math.pi / box)
    half = box // 2
    for n in prange(rotations.shape[0]):
        a = rotations[n]
        particle = n // per_particle
        # e^{2πi k·t/D} is a product of one factor for kx and one for ky.
        along_x = np.empty((half + 1, 2), np.float32)
        along_y = np.empty((box + 1, 2), np.float32)
        for i in range(half + 1):
            along_x[i, 0], along_x[i, 1] = math.cos(step * i * shifts[n, 0]), math.sin(step * i * shifts[n, 0])
        for i in range(box + 1):
            angle = step * (i - half) * shifts[n, 1]
            along_y[i, 0], along_y[i, 1] = math.cos(angle), math.sin(angle)
        total = np.zeros(21, np.float32)
        slope = np.empty((3, 2), np.float32)
        value = np.empty(2, np.float32)
        jacobian = np.empty((5, 2), np.float32)
        for p in range(k.shape[0]):
            kx, ky = k[p, 0], k[p, 1]
            x = (a[0, 0] * kx + a[1, 0] * ky) * pad
            y = (a[0, 1] * kx + a[1, 1] * ky) * pad
            z = (a[0, 2] * kx + a[1, 2] * ky) * pad
            sign = np.float32(-1.0) if x < 0 else np.float32(1.0)
            x, y, z = x * sign, y * sign + extent, z * sign + extent
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
                value_sign = np.float32(1.0) if c == 0 else sign
                slope_sign = (sign if c == 0 else np.float32(1.0)) * pad
                value[c] = (low * gz + high * fz) * value_sign
                along = ((d00 * gy + d01 * fy) * gz + (d10 * gy + d11 * fy) * fz) * slope_sign
                across = ((v01 - v00) * gz + (v11 - v10) * fz) * slope_sign
                deep = (high - low) * slope_sign
                for axis in range(3):
                    slope[axis, c] = a[axis, 0] * along + a[axis, 1] * across + a[axis, 2] * deep
            ux, uy = along_x[np.uint32(kx)], along_y[np.uint32(ky + half)]
            phase_re, phase_im = ux[0] * uy[0] - ux[1] * uy[1], ux[0] * uy[1] + ux[1] * uy[0]
            seen_re, seen_im = weighted[particle, p, 0], weighted[particle, p, 1]
            w = power[particle, p]
            moved_re = seen_re * phase_re - seen_im * phase_im
            moved_im = seen_re * phase_im + seen_im * phase_re
            for c in range(2):
                jacobian[0, c] = -ky * slope[2, c]
                jacobian[1, c] = kx * slope[2, c]
                jacobian[2, c] = ky * slope[0, c] - kx * slope[1, c]
            jacobian[3, 0], jacobian[3, 1] = step * kx * value[1], -step * kx * value[0]
            jacobian[4, 0], jacobian[4, 1] = step * ky * value[1], -step * ky * value[0]
            rest_re, rest_im = moved_re - w * value[0], moved_im - w * value[1]
            total[0] += value[0] * (moved_re + rest_re) + value[1] * (moved_im + rest_im)
            at = 6
            for r in range(5):
                total[1 + r] += 2 * (jacobian[r, 0] * rest_re + jacobian[r, 1] * rest_im)
                left, right = 2 * w * jacobian[r, 0], 2 * w * jacobian[r, 1]
                for s in range(r + 1):
                    total[at] += left * jacobian[s, 0] + right * jacobian[s, 1]
                    at += 1
        out[n] = total
