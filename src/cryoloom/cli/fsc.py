"""`cryoloom fsc`: the resolution at which two maps agree."""

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cryoloom.data.mrc import read_volume
from cryoloom.data.outputs import writing
from cryoloom.errors import InputError
from cryoloom.evaluate.fsc import FSCCurve, corrected_fsc
from cryoloom.evaluate.fsc import fsc as shell_correlation
from cryoloom.physics.alignment import align_volume
from cryoloom.physics.so3 import angular_distance


def fsc(
    a: Path,
    b: Path,
    *,
    mask: Path | None = None,
    align: bool = False,
    threshold: float = 0.143,
    output: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Print the resolution in Å at which the Fourier shell correlation of two maps falls below a threshold.

    The maps must lie on each other; where they come from two searches, --align turns the second onto the first. Use
    0.143 between half maps, 0.5 against a known structure. With a mask the correlation that the mask makes by itself is
    taken out, as in the fsc.csv of a run, and nothing is read off where noise alone may reach as high.

    Parameters
    ----------
    a
        First map (.mrc).
    b
        Second map, with the same box and pixel size.
    mask
        A map from 0 to 1 that both are multiplied by; let its edge be soft, a sharp one hides what the maps share.
    align
        Turn, move and, if need be, mirror the second map onto the first before; they must be from separate particles.
    threshold
        The correlation at which the resolution is read.
    output
        Where to write the curve as CSV: shell, resolution_angst, fsc and, with a mask, fsc_chance.
    overwrite
        Replace that file if another command wrote it.
    """
    first, pixel_size = read_volume(a)
    volumes = {path: _read_like(path, a, first.shape[-1], pixel_size) for path in (b, mask) if path is not None}
    _check_map(first, a)
    _check_map(volumes[b], b)
    console = Console()
    if align:
        placed = align_volume(volumes[b], first)
        volumes[b] = placed.volume
        turn = float(angular_distance(placed.rotation, torch.eye(3)))
        mirrored = ", mirrored" if placed.hand_flipped else ""
        console.print(f"aligned: {b} turned by {turn:.1f}°{mirrored}", highlight=False, soft_wrap=True)
    if mask is None:
        curve, hidden = shell_correlation(first, volumes[b], pixel_size), False
    else:
        _check_mask(volumes[mask], mask)
        curve, hidden = corrected_fsc(first, volumes[b], pixel_size, volumes[mask])
    console.print(f"resolution {curve.resolution(threshold):.2f} Å at FSC {threshold:g}", highlight=False)
    for doubt in _doubts(curve, threshold, hidden):
        console.print(f"warning: {doubt}", highlight=False, soft_wrap=True)
    console.print(_table(curve))
    if output is not None:
        inputs = [path for path in (a, b, mask) if path is not None]
        with writing([output], f"fsc {a.absolute()} {b.absolute()} {mask} {align}", inputs, overwrite):
            curve.to_csv(output)
        console.print(f"wrote {output}", highlight=False)


def _check_map(volume: Tensor, path: Path) -> None:
    if float(volume.max()) <= float(volume.min()):
        raise InputError(f"{path} has one value, {float(volume.max()):g}, in all voxels; expected a density map.")


def _check_mask(mask: Tensor, path: Path) -> None:
    low, high = float(mask.min()), float(mask.max())
    if not (low >= -0.1 and 0.1 < high <= 1.1):
        raise InputError(
            f"{path} runs from {low:.3g} to {high:.3g}; expected a mask from 0 outside to 1 inside the molecule: "
            "threshold and soften the map, or give the mask.mrc of a run."
        )


def _doubts(curve: FSCCurve, threshold: float, hidden: bool) -> list[str]:
    found = []
    low = float(curve.fsc[1:5].mean())
    if low < -0.5:
        found.append(
            f"the maps are each other's negative (FSC {low:.2f} in the first shells): the grey values of one are "
            "inverted; multiply it by -1."
        )
    if curve.shell_at(threshold) >= len(curve.fsc) - 1:
        found.append("the maps agree up to the finest detail that their voxels hold.")
    if hidden:
        found.append(
            "beyond this most of what the maps share came through the mask: they may agree further; soften it."
        )
    return found


def _read_like(path: Path, model: Path, box: int, pixel_size: float) -> Tensor:
    volume, its_pixel_size = read_volume(path)
    if volume.shape[-1] != box or abs(its_pixel_size - pixel_size) > 1e-3 * pixel_size:
        raise InputError(
            f"{path} has {volume.shape[-1]} voxels of {its_pixel_size:.4g} Å a side but {model} has {box} of "
            f"{pixel_size:.4g} Å; expected maps of one box and pixel size: resample one of them."
        )
    return volume


def _table(curve: FSCCurve, rows: int = 12) -> Table:
    columns = [curve.fsc] if curve.chance is None else [curve.fsc, curve.chance]
    table = Table("shell", "resolution (Å)", *("FSC", "noise alone")[: len(columns)])
    for column in table.columns:
        column.justify = "right"
    last = len(curve.fsc) - 1
    for shell in sorted({max(1, round(last * (i + 1) / rows)) for i in range(rows)}):
        table.add_row(
            str(shell), f"{float(curve.resolutions[shell]):.2f}", *(f"{float(c[shell]):.3f}" for c in columns)
        )
    return table
