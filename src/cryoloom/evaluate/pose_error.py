"""How far estimated poses are from the true ones, after everything that no data can tell was taken out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cryoloom.evaluate.align import Alignment, align_poses
from cryoloom.physics.pose import Pose


@dataclass(frozen=True)
class PoseErrors:
    """Errors of each particle, the alignment behind them and their summaries.

    alignment: global rotation and hand, with `angle_deg` and `frobenius_sq` (N,). translation: (3,) Å, u in
    `shift_est − shift_true ≈ (R u)_xy`; moving the aligned map by u brings it onto the true one. shift_px: (N,) pixels.
    """

    alignment: Alignment
    translation: Tensor
    shift_px: Tensor

    @property
    def hand_flipped(self) -> bool:
        return self.alignment.hand_flipped

    @property
    def rotation_error_median(self) -> float:
        """Median of ‖R − R̂‖²_F."""
        return float(self.alignment.frobenius_sq.median())

    @property
    def rotation_error_mean(self) -> float:
        """Mean of ‖R − R̂‖²_F."""
        return float(self.alignment.frobenius_sq.mean())

    @property
    def rotation_error_deg_median(self) -> float:
        """Median angle between the two rotations, degrees."""
        return float(self.alignment.angle_deg.median())

    @property
    def shift_error_px_median(self) -> float:
        """Median length of the shift error, pixels."""
        return float(self.shift_px.median())

    @property
    def shift_error_px_mean_square(self) -> float:
        """Mean squared length of the shift error, pixels²."""
        return float(self.shift_px.square().mean())

    def summary(self) -> dict[str, float | bool]:
        """The pose numbers of evaluation.json, under their names there."""
        names = ("rotation_error_median", "rotation_error_mean", "rotation_error_deg_median", "shift_error_px_median")
        return {name: getattr(self, name) for name in (*names, "shift_error_px_mean_square", "hand_flipped")}


def _global_translation(rotation: Tensor, difference: Tensor, trusted: Tensor) -> Tensor:
    """The u (3,) that minimises `Σ |d_i − (R_i u)_xy|` over trusted particles: least squares, reweighted."""
    rows, d = rotation[trusted][:, :2].double(), difference[trusted].double()
    weight = torch.ones(len(d), dtype=torch.float64)
    u = torch.zeros(3, dtype=torch.float64)
    for _ in range(20):
        normal = torch.einsum("nki,n,nkj->ij", rows, weight, rows) + 1e-9 * torch.eye(3, dtype=torch.float64)
        u = torch.linalg.solve(normal, torch.einsum("nki,n,nk->i", rows, weight, d))
        weight = 1 / (d - rows @ u).norm(dim=-1).clamp(min=1e-3)
    return u.float()


def pose_errors(estimated: Pose, true: Pose, pixel_size: float, group: Tensor | None = None) -> PoseErrors:
    """Errors of the first hypothesis of N particles, after one global rotation, hand and translation.

    A map moved by −u has shifts that differ by `(R u)_xy`; that u is taken out by robust least squares.
    group: (G, 3, 3), the point group of the true map. pixel_size in Å. Raises InputError for unequal numbers.
    """
    alignment = align_poses(estimated.best_rotation, true.best_rotation, group)
    aligned = alignment.apply(estimated.best_rotation)
    difference = estimated.best_shift - true.best_shift
    # Misoriented particles say nothing about where the map lies.
    trusted = alignment.angle_deg <= alignment.angle_deg.median().clamp(min=10)
    u = _global_translation(aligned, difference, trusted)
    residual = difference - aligned[:, :2] @ u
    return PoseErrors(alignment, u, residual.norm(dim=-1) / pixel_size)
