"""`cryoloom fsc`: the resolution at which two maps agree."""

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from cryoloom.data.mrc import read_volume
from cryoloom.errors import InputError
from cryoloom.evaluate.fsc import FSCCurve
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
) -> None:
    """Print the resolution in Å at which the Fourier shell correlation of two maps falls below a threshold.

    The maps must lie on each other; where they come from two searches, --align turns the second onto the first. Use
    0.143 between half maps, 0.5 against a known structure.

    Parameters
    ----------
    a
        First map (.mrc).
    b
        Second map, with the same box and pixel size.
    mask
        A map that both are multiplied by; let its edge be soft, a sharp one correlates with itself.
    align
        Turn, move and, if need be, mirror the second map onto the first before; they must be from separate particles.
    threshold
        The correlation at which the resolution is read.
    output
        Where to write the curve as CSV: shell, resolution_angst, fsc.
    """
    first, pixel_size = read_volume(a)
    volumes = {path: _read_like(path, a, first.shape[-1], pixel_size) for path in (b, mask) if path is not None}
    console = Console()
    if align:
        placed = align_volume(volumes[b], first)
        volumes[b] = placed.volume
        turn = float(angular_distance(placed.rotation, torch.eye(3)))
        mirrored = ", mirrored" if placed.hand_flipped else ""
        console.print(f"aligned: {b} turned by {turn:.1f}°{mirrored}", highlight=False, soft_wrap=True)
    curve = shell_correlation(first, volumes[b], pixel_size, volumes[mask] if mask is not None else None)
    console.print(f"resolution {curve.resolution(threshold):.2f} Å at FSC {threshold:g}", highlight=False)
    console.print(_table(curve))
    if output is not None:
        curve.to_csv(output)
        console.print(f"wrote {output}", highlight=False)


def _read_like(path: Path, model: Path, box: int, pixel_size: float):
    volume, its_pixel_size = read_volume(path)
    if volume.shape[-1] != box or abs(its_pixel_size - pixel_size) > 1e-3 * pixel_size:
        raise InputError(
            f"{path} has {volume.shape[-1]} voxels of {its_pixel_size:.4g} Å a side but {model} has {box} of "
            f"{pixel_size:.4g} Å; expected maps of one box and pixel size: resample one of them."
        )
    return volume


def _table(curve: FSCCurve, rows: int = 12) -> Table:
    table = Table("shell", "resolution (Å)", "FSC")
    for column in table.columns:
        column.justify = "right"
    last = len(curve.fsc) - 1
    for shell in sorted({max(1, round(last * (i + 1) / rows)) for i in range(rows)}):
        table.add_row(str(shell), f"{float(curve.resolutions[shell]):.2f}", f"{float(curve.fsc[shell]):.3f}")
    return table
