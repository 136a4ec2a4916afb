"""Volumes of molecules: the electron-scattering potential of a structure, or a density map brought to another grid."""

import math
from pathlib import Path

import gemmi
import numpy as np
import torch
from torch import Tensor

from cryoloom.data.mrc import Stack
from cryoloom.data.structure import centre_of_mass, positions, with_positions
from cryoloom.errors import InputError

# Rendering is on a grid twice as fine, with at least this much blur per squared voxel (Å² per Å²): frequencies that
# fold back into the band are then below 1 % of it. Blur beyond what was asked for is taken back in Fourier space.
_OVERSAMPLING = 2
_BLUR_PER_VOXEL = 9.2


def density_from_structure(
    structure: gemmi.Structure, box: int, pixel_size: float, blur: float = 20, centre: np.ndarray | None = None
) -> Tensor:
    """Electron-scattering potential (D, D, D) = (z, y, x), band-limited, with `centre` at voxel D//2.

    V = Σ_atoms occupancy · f_e(r − r_atom; B_atom + blur); blur in Å²; centre (3,) in Å: the centre of mass by default.
    Raises InputError where the molecule does not fit the box.
    """
    centre = centre_of_mass(structure) if centre is None else centre
    xyz = positions(structure) - centre
    _check_fit(structure.name or "the structure", float(np.linalg.norm(xyz, axis=1).max()), box, pixel_size)
    fine, step = box * _OVERSAMPLING, pixel_size / _OVERSAMPLING
    calculator = gemmi.DensityCalculatorE()
    calculator.blur = max(blur, _BLUR_PER_VOXEL * pixel_size**2)
    edge = fine * step
    calculator.grid.set_unit_cell(gemmi.UnitCell(edge, edge, edge, 90, 90, 90))
    calculator.grid.spacegroup = gemmi.SpaceGroup("P1")
    calculator.grid.set_size(fine, fine, fine)
    placed = with_positions(structure, xyz + (fine // 2) * step)
    calculator.add_model_density_to_grid(placed[0])
    rendered = torch.from_numpy(np.array(calculator.grid, copy=True)).permute(2, 1, 0)
    return resample_volume(rendered, step, box, pixel_size, deblur=calculator.blur - blur)


def density_from_map(path: str | Path, box: int, pixel_size: float) -> Tensor:
    """A density map (D, D, D) = (z, y, x), Fourier-resampled and cropped or padded about its centre voxel.

    Raises InputError for voxels that are not cubes, or where the molecule does not fit the box.
    """
    stack = Stack(path)
    x, y, z = stack.pixel_size
    if not (x > 0 and abs(x - y) < 1e-3 * x and abs(x - z) < 1e-3 * x):
        raise InputError(f"{path}: voxels of {x:g} x {y:g} x {z:g} Å; expected cubes: mend its header.")
    stored = stack.axes[::-1]
    volume = torch.from_numpy(np.ascontiguousarray(stack.read().transpose([stored.index(a) for a in (3, 2, 1)])))
    if not bool(torch.isfinite(volume).all()):
        raise InputError(f"{path} holds values that are not finite: write it again.")
    if box * pixel_size < max(volume.shape) * x * (1 - 1e-6):
        _check_fit(str(path), _map_radius(volume) * x, box, pixel_size)
    return resample_volume(volume, x, box, pixel_size)


def _map_radius(volume: Tensor) -> float:
    axes = [torch.arange(n, dtype=torch.float32) - n // 2 for n in volume.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    level = volume - volume.median()
    dense = level > 0.1 * level.max()
    # A few bright voxels far out are noise, not molecule.
    return float(np.quantile((x**2 + y**2 + z**2)[dense].sqrt().numpy(), 0.999))


def _check_fit(name: str, radius: float, box: int, pixel_size: float) -> None:
    needed = 2 * math.ceil(radius / pixel_size + 1)
    if needed > box:
        raise InputError(
            f"{name} reaches {radius:.0f} Å from its centre and does not fit a box of {box} x {pixel_size:g} Å: "
            f"take a box of at least {needed} pixels or a larger pixel size."
        )


def resample_volume(volume: Tensor, step: float, box: int, pixel_size: float, deblur: float = 0.0) -> Tensor:
    """A volume (Z, Y, X) of voxels `step` Å band-limited to, and sampled on, a cube (D, D, D) of voxels `pixel_size` Å.

    Trigonometric interpolation, exact for any ratio of voxel sizes, centre N//2 → D//2, zero outside the old volume;
    times exp(deblur · g² / 4), with `deblur` in Å².
    """
    if deblur == 0 and step == pixel_size and tuple(volume.shape) == (box,) * 3:
        return volume.clone()
    out = volume.float()
    for axis in range(3):
        matrix = _interpolation(volume.shape[axis], step, box, pixel_size, deblur)
        lines = out.movedim(axis, -1)
        # One plain matrix product: batched over planes it is fifty times slower.
        out = (lines.reshape(-1, lines.shape[-1]) @ matrix.T).unflatten(0, lines.shape[:-1]).movedim(-1, axis)
    return out.contiguous()


def _interpolation(n: int, step: float, box: int, pixel_size: float, deblur: float) -> Tensor:
    """Matrix (D, n) from samples at x_j = (j − n//2)·step to x_i = (i − D//2)·pixel_size.

    W_ij = (1/n) Σ_g exp(deblur g² / 4) cos(2π g (x_i − x_j)) over the frequencies g that both samplings hold.
    """
    length = n * step
    order = torch.arange(1, (n + 1) // 2, dtype=torch.float64)
    order = order[order / length < 0.5 / pixel_size - 1e-9]
    gain = torch.exp(deblur * (order / length) ** 2 / 4)
    target = (torch.arange(box, dtype=torch.float64) - box // 2) * pixel_size
    source = (torch.arange(n, dtype=torch.float64) - n // 2) * step
    phase = 2 * math.pi / length * order
    turned, held = target[:, None] * phase, source[:, None] * phase
    cosine = (turned.cos() * gain) @ held.cos().T + (turned.sin() * gain) @ held.sin().T
    inside = (target >= source[0] - step / 2) & (target < source[-1] + step / 2)
    return (torch.where(inside[:, None], (1 + 2 * cosine) / n, 0.0)).float()
