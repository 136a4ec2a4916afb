"""What the noise allows: the coordinate of each particle by maximum likelihood, volumes and poses known."""

from collections.abc import Callable

import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice
from cryoloom.solve.images import WorkingImages, first_noise

_PAD = 3
_CHUNK = 256


def likeliest_volumes(particles: Particles, poses: Pose, volume: Callable[[int], Tensor], count: int) -> Tensor:
    """Which (N,) of `count` volumes fits each image best at its pose: argmax_k of 2 s Re⟨y, C F_k⟩ − s² |C F_k|².

    volume(k): (D, D, D) at the particles' working box. The scale s of the images and the noise by shell are those that
    fit the mean volume best.
    """
    images = WorkingImages(particles)
    mean = torch.stack([volume(k) for k in range(count)]).mean(0)
    noise = first_noise(images)
    band = images.box / 2 - 1
    parts = [
        (images.evidence(chunk, noise, band), _in_pixels(poses.select(chunk), images.pixel_size))
        for chunk in torch.arange(len(images)).split(_CHUNK)
    ]
    cross, power = _against(mean, parts)
    scale = cross.sum() / power.sum()
    lattice = parts[0][0].lattice
    left = torch.cat([e.image_power for e, _ in parts]) - 2 * scale * cross + scale**2 * power
    # Evidence is divided by the noise it was made with: what is left corrects that noise.
    gain = lattice.from_shells(1 / lattice.shell_mean(left.mean(0)).clamp(min=1e-6))
    scores = []
    for k in range(count):
        cross, power = _against(volume(k), parts)
        scores.append(((2 * scale * cross - scale**2 * power) * gain).sum(1))
    return torch.stack(scores, 1).argmax(1)


def _against(volume: Tensor, parts: list[tuple[Evidence, Pose]]) -> tuple[Tensor, Tensor]:
    """Re⟨C y / σ², F⟩ and C² |F|² / σ² by coefficient, (N, P), of slices F of a volume at poses, shifts in pixels."""
    lattice = parts[0][0].lattice
    projector = FourierSlice.of_volume(volume, _PAD, float(lattice.radius[-1]))
    cross, power = [], []
    for evidence, pose in parts:
        slices = projector.project(pose.best_rotation, lattice)
        moved = evidence.centred(pose.best_shift)
        cross.append(slices.real * moved.real + slices.imag * moved.imag)
        power.append(evidence.power * slices.abs().square())
    return torch.cat(cross), torch.cat(power)


def _in_pixels(pose: Pose, pixel_size: float) -> Pose:
    return Pose(pose.rotation, pose.shift / pixel_size)
