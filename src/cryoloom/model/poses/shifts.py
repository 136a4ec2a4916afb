"""In-plane shifts: the grids that are searched, and few functions that express all shifts of a grid."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoloom.physics.fourier import FrequencyLattice, shift_phases


def shift_disc(extent_px: float, step_px: float) -> Tensor:
    """Shifts (S, 2) in pixels on a square grid of `step_px` within a circle of radius `extent_px`, centre included."""
    n = int(extent_px / step_px + 1e-6)
    axis = torch.arange(-n, n + 1) * step_px
    grid = _plane(axis)
    return grid[grid.norm(dim=-1) <= extent_px + 1e-4]


def shift_square(extent_px: float, points: int) -> Tensor:
    """Shifts (points², 2) in pixels, the centres of equal cells of the square ±`extent_px`."""
    axis = (torch.arange(points) - (points - 1) / 2) * (2 * extent_px / points)
    return _plane(axis)


def _plane(axis: Tensor) -> Tensor:
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


@dataclass(frozen=True)
class ShiftBasis:
    """Few functions of k whose real mixtures are `exp(2πi k·t/D)` for all shifts t (S, 2) px of a grid.

    Re(z exp(2πi k·t_s/D)) ≈ Σ_r mix[s, r] Re(z functions[r, k]): a band B and a reach of ±e px hold about (4 e B / D)²
    independent shifts, so that a grid finer than D / 2B is mostly repetition. functions: (r, P) complex; mix: (S, r).
    """

    shifts: Tensor
    functions: Tensor
    mix: Tensor

    @classmethod
    def of_shifts(cls, shifts: Tensor, lattice: FrequencyLattice, tolerance: float = 0.01) -> "ShiftBasis":
        """The basis of `shifts` up to `tolerance` of the largest singular value."""
        phases = shift_phases(lattice.k, -shifts.to(lattice.k.device), lattice.box)
        kernel = torch.cat([phases.real, -phases.imag], 1)
        # Singular vectors from the small Gram matrix: the kernel has few rows and many columns.
        value, vector = torch.linalg.eigh((kernel @ kernel.T).double())
        kept = value > (tolerance**2) * value[-1]
        mix = vector[:, kept].to(kernel)
        real, imaginary = (mix.T @ kernel).chunk(2, 1)
        return cls(shifts.to(kernel), torch.complex(real, -imaginary), mix)

    @property
    def phases(self) -> Tensor:
        """What the mixtures make of the shifts' phase factors (S, P), for checks."""
        return self.mix.to(self.functions.dtype) @ self.functions


def shift_step(box: int, band: float) -> float:
    """Step in pixels, D / 4·band, at which neighbouring shifts still tell the same story up to `band`."""
    return box / (4 * band)


def shift_log_prior(shifts: Tensor, extent_px: float) -> Tensor:
    """Log-prior (S,) of shifts (S, 2) px: a Gaussian whose standard deviation is the largest shift searched."""
    return -0.5 * (shifts.norm(dim=-1) / extent_px) ** 2


def cells_across(extent_px: float, step_px: float) -> int:
    """Cells of at most `step_px` that cover ±`extent_px`."""
    return max(1, math.ceil(2 * extent_px / step_px - 1e-6))
