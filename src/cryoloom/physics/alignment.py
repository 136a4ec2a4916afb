"""One map laid on another: the rotation, hand and shift of the greatest correlation."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.physics.fourier import radii3, resample_volume
from cryoloom.physics.rigid import apply_to_volume, low_pass, mirror_rotation, mirror_volume, sample_moved
from cryoloom.physics.so3 import RotationGrid, angular_distance, matrix_from_rotvec

# Voxels a side of the maps that are searched: at a third of it, their band, 15° is still a fine step.
_COARSE_BOX = 20
# Voxels at the end of the box that hold no molecule.
_RIM = 2.0
# Difference of correlations below which coarse maps do not settle the hand.
_UNDECIDED = 0.1


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


def _prepare(volume: Tensor, box: int, band: float, rim: float = math.inf) -> Tensor:
    """The map at a coarser box, low-passed, without corners, of unit norm; zero is its mean up to `rim` voxels inside.

    A search over all placements compares maps without their mean. But what surrounds the molecule then ends with a
    step, which lies on that of the other map only where nothing is moved: small moves would come out too small.
    """
    small = low_pass(resample_volume(volume.float(), box), band)
    radius, end = radii3(box, volume.device), box / 2 - 1
    ball = radius < end
    small = (small - small[ball & (radius >= end - rim)].mean()) * ball
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
    placement = _Placement(rotation.float(), hand_flipped, translation.float() / volume.shape[-1], 0.0)
    return _finish(volume, _finer(volume, reference, placement))


def _finer(volume: Tensor, reference: Tensor, placement: _Placement) -> _Placement:
    box = volume.shape[-1]
    with _one_thread():
        for small in sorted({min(box, _COARSE_BOX), min(box, 64)}):
            moving, target = (_prepare(v, small, small / 3, _RIM) for v in (volume, reference))
            placement = _refine(moving, target, placement, steps=25)
        moving, target = (_prepare(v, small, small / 3) for v in (volume, reference))
    return placement._replace(correlation=_correlation(moving, target, placement))


def _correlation(moving: Tensor, reference: Tensor, placement: _Placement) -> float:
    """Correlation of two prepared maps with the first one moved."""
    source = mirror_volume(moving) if placement.flip else moving
    moved = sample_moved(source, placement.rotation[None], placement.translation[None] * len(moving))[0]
    return float((moved * reference).sum() / moved.norm().clamp(min=1e-30))


def align_volume(volume: Tensor, reference: Tensor) -> VolumeAlignment:
    """`volume` (D, D, D) moved onto `reference` (D, D, D): both hands, all rotations on a 15° grid, all translations.

    Low-passed maps of 20 voxels a side are searched exhaustively and the best twelve placements are refined. The best
    of each hand is refined again on finer maps, as some molecules have no hand at low resolution. Raises InputError
    when the shapes differ.
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
        refined = [_refine(moving, target, p, steps=15) for p in placements]
    best = max(p.correlation for p in refined)
    hands = [max((p for p in refined if p.flip is flip), key=lambda p: p.correlation) for flip in (False, True)]
    finer = [_finer(volume, reference, p) for p in hands if p.correlation > best - _UNDECIDED]
    return _finish(volume, max(finer, key=lambda p: p.correlation))
