"""The Fourier shell correlation of two maps, and the resolution that is read off it."""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.errors import InputError
from cryoloom.physics.fourier import crossing_shell, fourier_shell_correlation
from cryoloom.solve.em.agreement import agreement


@dataclass(frozen=True)
class FSCCurve:
    """A correlation for each shell of a box: fsc (S,), box in voxels, pixel_size in Å, chance (S,) if it is known.

    chance is what noise alone may reach: nothing is read off the curve where it is no higher.
    """

    fsc: Tensor
    box: int
    pixel_size: float
    chance: Tensor | None = None

    @property
    def shells(self) -> Tensor:
        """Radii (S,) of the shells in Fourier pixels."""
        return torch.arange(len(self.fsc))

    @property
    def resolutions(self) -> Tensor:
        """Resolutions (S,) in Å, `D · pixel_size / shell`; infinite at shell 0."""
        return self.box * self.pixel_size / self.shells.double()

    def shell_at(self, threshold: float) -> float:
        """The shell, between integers, where the curve first falls below `threshold`; the last one if it never does."""
        least = threshold if self.chance is None else self.chance.clamp(min=threshold)
        return crossing_shell(self.fsc, least)

    def resolution(self, threshold: float = 0.143) -> float:
        """Resolution in Å where the curve first falls below `threshold`: `D · pixel_size / shell`."""
        # A curve that is below the threshold from the first shell on says nothing finer than that shell.
        return self.box * self.pixel_size / max(self.shell_at(threshold), 1.0)

    def to_csv(self, path: Path | str) -> None:
        """Write the columns shell, resolution_angst, fsc, and fsc_chance where it is known."""
        columns = {"fsc": self.fsc} | ({} if self.chance is None else {"fsc_chance": self.chance})
        with replacing(path) as part, part.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["shell", "resolution_angst", *columns])
            for shell, resolution, *values in zip(self.shells, self.resolutions, *columns.values(), strict=True):
                writer.writerow([int(shell), f"{float(resolution):.4f}", *(f"{float(value):.6f}" for value in values)])

    @classmethod
    def from_csv(cls, path: Path | str) -> "FSCCurve":
        """Read a curve of `to_csv`, or any table with those three columns.

        The table holds the field of view only; the box is taken as twice the number of shells. Raises InputError for a
        table without the columns or with fewer than two shells.
        """
        try:
            with Path(path).open(newline="") as file:
                rows = list(csv.DictReader(file))
            values = [float(row["fsc"]) for row in rows]
            chance = [float(row["fsc_chance"]) for row in rows] if "fsc_chance" in rows[0] else None
            field = float(rows[1]["shell"]) * float(rows[1]["resolution_angst"])
        except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: expected a CSV table with columns shell, resolution_angst, fsc and a row for each shell; "
                "give the fsc.csv of a run."
            ) from error
        box = 2 * len(values)
        return cls(torch.tensor(values), box, field / box, None if chance is None else torch.tensor(chance))


def fsc(a: Tensor, b: Tensor, pixel_size: float, mask: Tensor | None = None) -> FSCCurve:
    """Fourier shell correlation of two maps (D, D, D), both multiplied by `mask` (D, D, D) where one is given.

    `FSC(s) = Σ F_a F_b* / sqrt(Σ|F_a|² Σ|F_b|²)` over the shell s (Harauz & van Heel 1986). pixel_size in Å.
    Raises InputError when the shapes differ.
    """
    _check_shapes(a, b, mask)
    if mask is not None:
        a, b = a * mask, b * mask
    return FSCCurve(fourier_shell_correlation(a, b), a.shape[-1], pixel_size)


def corrected_fsc(a: Tensor, b: Tensor, pixel_size: float, mask: Tensor, seed: int = 0) -> tuple[FSCCurve, bool]:
    """The FSC of two maps (D, D, D) inside a mask without what the mask adds, as in a run's fsc.csv.

    Also whether the mask hides where the agreement at 0.143 ends. pixel_size in Å. Raises InputError as `fsc` does.
    """
    _check_shapes(a, b, mask)
    curves = agreement((a, b), mask, seed)
    return FSCCurve(curves.fsc, a.shape[-1], pixel_size, curves.chance), curves.hidden_by_mask(0.143)


def _check_shapes(a: Tensor, b: Tensor, mask: Tensor | None) -> None:
    for name, other in (("map", b), ("mask", mask)):
        if other is not None and other.shape != a.shape:
            raise InputError(
                f"The FSC needs maps of one box: the first is {_shape(a)} voxels, the other {name} {_shape(other)}; "
                "resample one of them."
            )


def _shape(volume: Tensor) -> str:
    return " × ".join(str(n) for n in volume.shape)
