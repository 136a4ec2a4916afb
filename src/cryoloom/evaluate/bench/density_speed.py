"""How fast a density in space makes images and their gradient: on voxels that stay, and at the points of each ray."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.density import DensityField
from cryoloom.model.fields.settings import FieldSettings, TransformerSettings
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.points import point_spectra
from cryoloom.physics.so3 import random_rotations

Z_DIM = 8
IMAGES = 32
RAY_IMAGES = 4
_REPEATS = 3


class Speed(NamedTuple):
    """Seconds of one image, forward and backward with the gradient of its pose, and points of the density a second."""

    seconds: float
    points_per_s: float


def density_speed(
    settings: TransformerSettings,
    box: int,
    device: str,
    rays: bool = False,
    bf16: bool = False,
    compiled: bool = False,
) -> Speed:
    """Speed of `DensityField.slices`, or of a network that is asked at the points of every image's rays."""
    generator = torch.Generator().manual_seed(0)
    field = build_field(FieldSettings(field="cryoformer", transformer=settings), box, generator, Z_DIM).to(device)
    assert isinstance(field, DensityField)
    if compiled:
        field.compile_network()
    k = FrequencyLattice.of_box(box, device).prefix(box / 2 - 1).k
    count, slices = (RAY_IMAGES, _along_rays(field)) if rays else (IMAGES, field.slices)
    rotations = random_rotations(count, generator)[:, None].to(device).requires_grad_()
    z = torch.randn(count, Z_DIM, generator=generator).to(device)
    seconds = _fastest(lambda: _there_and_back(slices, rotations, k, z, bf16), device) / count
    return Speed(seconds, len(field.voxels) / seconds)


def _along_rays(field: DensityField) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Ray integrals as the paper writes them (eq. 6): the density at Rᵀx for the pixels and depths x of each image."""

    def slices(rotations: Tensor, k: Tensor, z: Tensor) -> Tensor:
        points = torch.einsum("bji,mj->bmi", rotations[:, 0], field.voxels) / field.box
        places = field.voxels[:, :2].expand(len(rotations), 1, -1, -1)
        return point_spectra(field(points, z), places, k, field.box)

    return slices


def _there_and_back(slices: Callable, rotations: Tensor, k: Tensor, z: Tensor, bf16: bool) -> None:
    with torch.autocast(rotations.device.type, dtype=torch.bfloat16, enabled=bf16):
        made = slices(rotations, k, z)
    made.abs().square().sum().backward()


def _fastest(step: Callable[[], None], device: str) -> float:
    """Seconds of the fastest of some repeats, the first of which is not counted."""
    seconds = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
