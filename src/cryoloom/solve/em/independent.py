"""Two maps of the same molecule found apart: laid on one another, hand included, and compared."""

from typing import NamedTuple

import roma
import torch
from torch import Tensor

from cryoloom.physics.alignment import align_volume
from cryoloom.physics.fourier import (
    centred_fft3,
    centred_ifft3,
    fourier_shell_correlation,
    radii3,
    resample_volume,
    shell_sums3,
)
from cryoloom.physics.rigid import apply_to_volume, without_round_part


class MapComparison(NamedTuple):
    """A map (D, D, D) laid on another, and how well they then agree.

    fsc: (D/2,) of both without what is round in them. hand_flipped: the map was mirrored.
    """

    volume: Tensor
    fsc: Tensor
    hand_flipped: bool

    def mean(self, first: float, last: float) -> float:
        """Mean FSC over the shells from `first` to `last`, Fourier pixels."""
        return float(self.fsc[int(first) : int(last) + 1].mean())


def compare_maps(volume: Tensor, other: Tensor, band: float, group: Tensor) -> MapComparison:
    """`other` (D, D, D) laid on `volume` (D, D, D), both known to `band` px, by what is not round in them.

    Every molecule agrees with a ball or a shell of its size. What is left without the spherical average counts alike
    at all frequencies up to `band`. `group` (n, 3, 3): the symmetry that both maps have and keep.
    """
    parts = [flattened(without_round_part(v), band) for v in (volume, other)]
    found = align_volume(parts[1], parts[0])
    placed = _symmetrised(found.apply(other), group)
    fsc = fourier_shell_correlation(without_round_part(volume), without_round_part(placed))
    return MapComparison(placed, fsc, found.hand_flipped)


def flattened(volume: Tensor, band: float) -> Tensor:
    """A map (D, D, D) all of whose shells up to `band` px have the same mean power, and none beyond."""
    spectrum, box = centred_fft3(volume), volume.shape[-1]
    power = shell_sums3(spectrum.abs() ** 2) / shell_sums3(torch.ones_like(volume)).clamp(min=1)
    gain = torch.where(torch.arange(box // 2) <= band, power.clamp(min=1e-30).rsqrt().cpu(), 0.0).float()
    gain[0] = 0
    shell = radii3(box, volume.device).round().long().clamp(max=box // 2)
    return centred_ifft3(spectrum * torch.cat([gain, gain.new_zeros(1)]).to(volume.device)[shell])


def _symmetrised(volume: Tensor, group: Tensor) -> Tensor:
    """The mean of a map (D, D, D) over a point group (n, 3, 3): what turning it blurred is exact again."""
    if len(group) == 1:
        return volume
    return torch.stack([apply_to_volume(volume, g.T) for g in group.cpu()]).mean(0)


def on_box(volume: Tensor, box: int) -> Tensor:
    """A map (D, D, D) of the same field of view on another box: coefficients stay, grey values go with the voxel."""
    return resample_volume(volume, box) * (volume.shape[-1] / box) ** 3


class FreeAxis(NamedTuple):
    """What a point group leaves free: turns about `axis` (3,) and moves along it, or everything where it is None."""

    axis: Tensor | None

    def restrict(self, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """The part of a small turn (3, 3) and a move (3,) that keeps the group's axis where it is."""
        if self.axis is None:
            return rotation, translation
        vector = roma.rotmat_to_rotvec(rotation)
        return roma.rotvec_to_rotmat(self.axis * (vector @ self.axis)), self.axis * (translation @ self.axis)


def group_axis(group: Tensor) -> FreeAxis | None:
    """What a point group (n, 3, 3) leaves free: everything (C1), an axis (Cn), or None where all is fixed."""
    if len(group) == 1:
        return FreeAxis(None)
    vectors = roma.rotmat_to_rotvec(group[1:].double().cpu()).float()
    axis = torch.nn.functional.normalize(vectors[0], dim=0)
    along = torch.linalg.cross(vectors, axis.expand_as(vectors)).norm(dim=1)
    return FreeAxis(axis) if float(along.max()) < 1e-3 else None
