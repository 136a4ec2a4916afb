"""The one global rotation and handedness that no data can tell, found between two sets of poses or two maps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import roma
import torch
from scipy.optimize import minimize
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.evaluate.maps import (
    apply_to_volume,
    low_pass,
    mirror_rotation,
    mirror_volume,
    sample_moved,
)
from cryoloom.physics.fourier import radii3, resample_volume
from cryoloom.physics.so3 import RotationGrid, angular_distance, matrix_from_rotvec

# Voxels a side of the maps that are searched: at a third of it, their band, 15° is still a fine step.
_COARSE_BOX = 20


@dataclass(frozen=True)
class Alignment:
    """How poses of one reconstruction go over into the frame of another: `R_true ≈ apply(R_est)`.

    rotation: (3, 3), Q in `R_est ≈ R_true Q`; it turns the estimated map onto the true one. hand_flipped: the estimated
    map is the mirror image. angle_deg, frobenius_sq: (N,) error of each particle, degrees and ‖R − R̂‖²_F, the smallest
    over the point group. agreement: in [0, 1], how much of the particles agrees with the alignment.
    """

    rotation: Tensor
    hand_flipped: bool
    angle_deg: Tensor
    frobenius_sq: Tensor
    agreement: float

    def apply(self, rotation: Tensor) -> Tensor:
        """Estimated rotations (…, 3, 3) in the true frame: `R Qᵀ`, or `M R M Qᵀ` where the hand is flipped."""
        rotation = mirror_rotation(rotation) if self.hand_flipped else rotation
        return rotation @ self.rotation.T.to(rotation)


def _relative(estimated: Tensor, true: Tensor, group: Tensor) -> Tensor:
    """(R_true g)ᵀ R_est, (N, G, 3, 3): what Q would be if each particle alone decided."""
    return torch.einsum("gji,njk->ngik", group, true.mT @ estimated)


def _angles(relative: Tensor, rotation: Tensor) -> Tensor:
    """Angle in degrees (N, G, C) between relative rotations (N, G, 3, 3) and candidates (C, 3, 3)."""
    trace = relative.flatten(2) @ rotation.flatten(1).T
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def _kernel(angle: Tensor) -> Tensor:
    """A robust vote of an angle in degrees: a sharp term that finds the exact rotation, a wide one for coarse poses."""
    return (torch.exp(-((angle / 5) ** 2)) + torch.exp(-((angle / 20) ** 2))) / 2


def _best_rotation(estimated: Tensor, true: Tensor, group: Tensor) -> tuple[Tensor, float]:
    """The rotation Q (3, 3) with most votes, and its mean vote."""
    n, relative = len(estimated), _relative(estimated, true, group)
    # Evenly spaced particles propose and judge: deterministic, and enough to find two inliers in a hundred.
    proposers = torch.linspace(0, n - 1, min(n, 512)).long()
    judges = torch.linspace(0, n - 1, min(n, max(256, 4096 // len(group)))).long()
    candidates = relative[proposers, 0]
    votes = torch.cat([_kernel(_angles(relative[judges], part).amin(1)).mean(0) for part in candidates.split(64)])
    rotation = candidates[votes.argmax()]
    for _ in range(10):
        angle, g = _angles(relative, rotation[None])[..., 0].min(1)
        inlier = angle < 30
        width = max(3 * float(angle[inlier].median()), 0.01) if inlier.any() else 30.0
        weight = torch.exp(-((angle / width) ** 2)) * inlier
        if not weight.any():
            break
        rotation = torch.as_tensor(
            roma.special_procrustes((weight[:, None, None] * relative[torch.arange(n), g]).sum(0))
        )
    return rotation, float(_kernel(_angles(relative, rotation[None]).amin(1)).mean())


def align_poses(estimated: Tensor, true: Tensor, group: Tensor | None = None) -> Alignment:
    """The global rotation and hand that bring estimated rotations (N, 3, 3) onto true ones, whatever the outliers.

    `R_est ≈ R_true g Q` (`x_image = R x_volume`: a turn of the volume acts on the right), g any element of the true
    map's point group (G, 3, 3); the mirror image has `M R_est M`. Candidates `R_trueᵢᵀ R_estᵢ` of single particles are
    judged by a robust vote of all, the best one is refined by chordal means of its inliers. Deterministic.
    Raises InputError without particles or for unequal numbers.
    """
    if len(estimated) != len(true) or len(true) == 0:
        raise InputError(
            f"Poses are compared particle by particle, but there are {len(estimated)} estimated and {len(true)} true "
            "ones; give two sets of the same particles."
        )
    est, ref = estimated.double(), true.double()
    group = torch.eye(3, dtype=torch.float64)[None] if group is None else group.double()
    hands = [_best_rotation(hand, ref, group) for hand in (est, mirror_rotation(est))]
    flipped = hands[1][1] > hands[0][1]
    rotation, agreement = hands[flipped]
    aligned = (mirror_rotation(est) if flipped else est) @ rotation.T
    copies = ref[:, None] @ group
    frobenius_sq = (aligned[:, None] - copies).square().sum((-2, -1)).amin(1)
    angle = angular_distance(aligned[:, None], copies).amin(1)
    return Alignment(rotation.float(), bool(flipped), angle.float(), frobenius_sq.float(), agreement)


class VolumeAlignment(NamedTuple):
    """A map in the frame of another: `volume = apply(moving)`.

    volume: (D, D, D). rotation: (3, 3). translation: (3,) voxels, (x, y, z). correlation: of the low-passed maps.
    """

    volume: Tensor
    rotation: Tensor
    hand_flipped: bool
    translation: Tensor
    correlation: float

    def apply(self, volume: Tensor) -> Tensor:
        """Another map (D, D, D) of the same frame, moved alike."""
        return apply_to_volume(volume, self.rotation, self.hand_flipped, self.translation)


class _Placement(NamedTuple):
    rotation: Tensor
    flip: bool
    translation: Tensor  # as fractions of the box, so that it holds for every sampling
    correlation: float


def _prepare(volume: Tensor, box: int, band: float) -> Tensor:
    """The map at a coarser box, low-passed, without its mean and without corners, of unit norm."""
    small = low_pass(resample_volume(volume.float(), box), band)
    ball = radii3(box, volume.device) < box / 2 - 1
    small = (small - small[ball].mean()) * ball
    return small / small.norm().clamp(min=1e-30)


def _search(moving: Tensor, reference: Tensor, rotations: Tensor, keep: int) -> list[_Placement]:
    """The best placements of each hand over all `rotations` (n, 3, 3) and all translations (phase correlation)."""
    box = moving.shape[-1]
    # Turning the mirrored map is mirroring the turned one: one turn serves both hands, against a mirrored reference.
    targets = torch.fft.rfftn(torch.stack([reference, mirror_volume(reference)]), dim=(-3, -2, -1))
    scores, peaks = [], []
    for part in rotations.split(128):
        spectra = torch.fft.rfftn(sample_moved(moving, part, part.new_zeros(len(part), 3)), dim=(-3, -2, -1))
        cross = torch.fft.irfftn(targets[None] * spectra[:, None].conj(), s=(box,) * 3, dim=(-3, -2, -1))
        score, peak = cross.flatten(2).max(-1)
        scores.append(score)
        peaks.append(peak)
    score, peak = torch.cat(scores), torch.cat(peaks)
    placements = []
    for flip in (False, True):
        chosen: list[int] = []
        for i in score[:, int(flip)].argsort(descending=True)[:200].tolist():
            if len(chosen) < keep and all(angular_distance(rotations[i], rotations[j]) > 20 for j in chosen):
                chosen.append(i)
        for i in chosen:
            zyx = torch.tensor(np.unravel_index(int(peak[i, int(flip)]), (box,) * 3))
            shift = ((zyx + box // 2) % box - box // 2).flip(0).float() / box
            rotation = mirror_rotation(rotations[i]) if flip else rotations[i]
            shift = shift * torch.tensor([1.0, 1.0, -1.0]) if flip else shift
            placements.append(_Placement(rotation, flip, shift, float(score[i, int(flip)])))
    return placements


def _refine(moving: Tensor, reference: Tensor, start: _Placement, steps: int) -> _Placement:
    """The placement near `start` with the greatest correlation of the two prepared maps (L-BFGS on turn and shift)."""
    box = moving.shape[-1]
    source = mirror_volume(moving) if start.flip else moving
    scale = np.array([1.0] * 3 + [1.0 / box] * 3)  # about a voxel at the rim for a turn of 2/box

    def place(x: Tensor) -> tuple[Tensor, Tensor]:
        return matrix_from_rotvec(x[:3]) @ start.rotation, start.translation + x[3:]

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.tensor(x * scale, dtype=torch.float32, requires_grad=True)
        rotation, translation = place(parameters)
        moved = sample_moved(source, rotation[None], translation[None] * box)[0]
        value = -(moved * reference).sum() / moved.norm().clamp(min=1e-30)
        (gradient,) = torch.autograd.grad(value, parameters)
        return float(value.detach()), gradient.double().numpy() * scale

    found = minimize(loss, np.zeros(6), jac=True, method="L-BFGS-B", options={"maxiter": steps, "ftol": 1e-7})
    rotation, translation = place(torch.tensor(found.x * scale, dtype=torch.float32))
    return _Placement(rotation, start.flip, translation, -float(found.fun))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: sharing maps this small costs more than it gives, tenfold on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _finish(volume: Tensor, placement: _Placement) -> VolumeAlignment:
    rotation, flip, fraction, correlation = placement
    translation = fraction * volume.shape[-1]
    return VolumeAlignment(
        apply_to_volume(volume, rotation, flip, translation), rotation, flip, translation, correlation
    )


def refine_volume(
    volume: Tensor, reference: Tensor, rotation: Tensor, hand_flipped: bool, translation: Tensor
) -> VolumeAlignment:
    """`volume` (D, D, D) moved onto `reference` (D, D, D) from a known placement; terms as in `VolumeAlignment`."""
    box = volume.shape[-1]
    placement = _Placement(rotation.float(), hand_flipped, translation.float() / box, 0.0)
    with _one_thread():
        for small in sorted({min(box, _COARSE_BOX), min(box, 64)}):
            moving, target = (_prepare(v, small, small / 3) for v in (volume, reference))
            placement = _refine(moving, target, placement, steps=25)
    return _finish(volume, placement)


def align_volume(volume: Tensor, reference: Tensor) -> VolumeAlignment:
    """`volume` (D, D, D) moved onto `reference` (D, D, D): both hands, all rotations on a 15° grid, all translations.

    Low-passed maps of 20 voxels a side are searched exhaustively, the best twelve placements are refined, and the best
    one again on finer maps. Raises InputError when the shapes differ.
    """
    if volume.shape != reference.shape:
        raise InputError(
            f"Maps are aligned in one box, but these have {volume.shape[-1]} and {reference.shape[-1]} voxels a side; "
            "resample one of them."
        )
    volume, reference = volume.float(), reference.float()
    box = min(volume.shape[-1], _COARSE_BOX)
    with _one_thread():
        moving, target = (_prepare(v, box, box / 3) for v in (volume, reference))
        placements = _search(moving, target, RotationGrid(2).rotations(), keep=6)
        best = max((_refine(moving, target, p, steps=15) for p in placements), key=lambda p: p.correlation)
    return refine_volume(volume, reference, best.rotation, best.flip, best.translation * volume.shape[-1])
