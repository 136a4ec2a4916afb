"""From what a format's reader found to `Particles`: defaults filled in, and everything that cannot be right refused."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cryoloom.data.findings import Finding
from cryoloom.data.matching import ImageNames
from cryoloom.data.mrc import Stack, read_stack
from cryoloom.data.particles import CANONICAL, DEFAULTS, NAME_COLUMNS, Particles
from cryoloom.errors import InputError

_NEEDED_FOR_CTF = ("defocus_u", "defocus_v", "defocus_angle", "voltage_kv", "cs_mm", "amplitude_contrast")
# Outside of these a number is in another unit or another column's.
_PLAUSIBLE = (
    ("voltage_kv", 1, 3000, "kV"),
    ("amplitude_contrast", -1, 1, ""),
    ("cs_mm", -1, 100, "mm"),
    ("defocus_u", -1e6, 1e6, "Å"),
    ("defocus_v", -1e6, 1e6, "Å"),
)
# Of these columns no other value has a meaning.
_ALLOWED = {"half_set": (0, 2), "image_index": (0, 2**31 - 2)}
_MAY_BE_UNKNOWN = {*_NEEDED_FOR_CTF, "coordinate_x", "coordinate_y"}
# Reading the headers of more stacks than this would make opening a large project slow; the rest is checked when read.
_STACKS_CHECKED = 2000


@dataclass
class Found:
    """What a reader found in `source`: canonical columns (each (N,) or one value), extra columns, poses, optics.

    box, pixel_size (Å): one value or (N,), None where the file is silent. labels: the file's names of our columns.
    shift_in_pixels: shift_x and shift_y are still to be multiplied by the pixel size. uid: cryoSPARC's, (N,). named:
    whether the file names its images, as a bare stack does not. findings: what is worth saying of the file. rescaled:
    the pixel size in use over the file's.
    """

    source: Path
    n: int
    columns: dict[str, Any] = field(default_factory=dict)
    extra: pd.DataFrame | None = None
    rotation: np.ndarray | None = None
    optics: pd.DataFrame | None = None
    box: Any = None
    pixel_size: Any = None
    labels: dict[str, str] = field(default_factory=dict)
    shift_in_pixels: bool = False
    uid: np.ndarray | None = None
    named: bool = True
    findings: list[Finding] = field(default_factory=list)
    rescaled: float = 1.0

    @property
    def images(self) -> ImageNames:
        """What names the images of the rows."""
        return ImageNames(
            self.source,
            self.columns["image_file"],
            np.broadcast_to(np.asarray(self.columns["image_index"]), self.n),
            self.uid,
            self.named,
        )

    def label(self, column: str) -> str:
        """The file's own name of a canonical column."""
        return self.labels.get(column, column)


def assemble(found: Found, *, require_images: bool = False) -> Particles:
    """Check what a reader found and make it `Particles` at the box of the file.

    Raises InputError, naming file, row and column: incomplete CTF, broken numbers, mixed or missing pixel sizes or
    boxes, stacks that are too short or of another size, and, with `require_images`, stacks that are missing.
    """
    if found.n == 0:
        raise InputError(f"{found.source} holds no particles: expected at least one row.")
    _check_numbers(found)
    _check_ctf(found)
    table = pd.DataFrame({name: _column(found, name) for name in CANONICAL}, index=pd.RangeIndex(found.n))
    if found.extra is not None:
        table = pd.concat([table, found.extra.set_axis(table.index)], axis=1)
    stack = _check_stacks(found, table, require_images)
    box = _single(found, found.box, "box", "px")
    if box == 0 and stack is not None:
        box = stack.shape[2]
    pixel_size = _single(found, found.pixel_size, "pixel size", "Å")
    if pixel_size == 0 and stack is not None:
        pixel_size = stack.pixel_size[0]
    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise InputError(
            f"{found.source} gives no pixel size in Å, nor do its stacks: set rlnImagePixelSize or the MRC header's."
        )
    pixel_size = round(pixel_size, 6)
    if found.shift_in_pixels:
        table["shift_x"] *= np.float32(pixel_size)
        table["shift_y"] *= np.float32(pixel_size)
    if found.rotation is not None:
        found.rotation = np.ascontiguousarray(found.rotation, dtype=np.float32)
    return Particles(
        table,
        found.source,
        int(box),
        float(pixel_size),
        int(box),
        found.rotation,
        found.optics,
        tuple(found.findings),
    )


def _column(found: Found, name: str) -> Any:
    if name == "source_row":
        return np.arange(found.n)
    value = found.columns.get(name)
    if name in NAME_COLUMNS:
        if isinstance(value, pd.Categorical):
            return value
        return pd.Categorical(np.full(found.n, "", dtype=object) if value is None else np.asarray(value, dtype=object))
    kind, default = DEFAULTS[name]
    if value is not None:
        _check_narrowed(found, name, np.dtype(kind))
    return np.broadcast_to(np.asarray(default if value is None else value, dtype=kind), found.n).copy()


def _check_narrowed(found: Found, name: str, kind: np.dtype) -> None:
    """Raise InputError where a number of a column changes its meaning when it is stored as `kind`."""
    numbers = np.broadcast_to(np.asarray(found.columns[name], dtype=np.float64), found.n)
    if kind.kind == "f":
        largest = float(np.finfo(kind).max)
        bad, expected = np.abs(numbers) > largest, f"a number up to {largest:.1g}"
    else:
        low, high = _ALLOWED.get(name, (np.iinfo(kind).min, np.iinfo(kind).max))
        # Image numbers count from 1 in the files, from 0 here.
        shown = (low + 1, high + 1) if name == "image_index" else (low, high)
        bad = (numbers < low) | (numbers > high) | (numbers != np.round(numbers))
        expected = f"a whole number from {shown[0]} to {shown[1]}"
    rows = np.flatnonzero(bad)
    if len(rows):
        value = numbers[rows[0]] + (name == "image_index")
        raise InputError(
            f"{found.source}, row {rows[0] + 1}: {found.label(name)} is {value:.15g}; expected {expected}: mend it."
        )


def _first_bad(values: Any, n: int) -> int | None:
    numbers = np.broadcast_to(np.asarray(values, dtype=float), n)
    bad = np.flatnonzero(~np.isfinite(numbers))
    return int(bad[0]) if len(bad) else None


def _check_numbers(found: Found) -> None:
    for name in set(found.columns) & (set(DEFAULTS) - _MAY_BE_UNKNOWN):
        row = _first_bad(found.columns[name], found.n)
        if row is not None:
            raise InputError(f"{found.source}, row {row + 1}: {found.label(name)} is not a number: mend the row.")
    if found.rotation is not None and not np.isfinite(found.rotation).all():
        row = int(np.flatnonzero(~np.isfinite(found.rotation).all(axis=(1, 2)))[0])
        raise InputError(f"{found.source}, row {row + 1}: the angles of the pose are not numbers: mend it.")


def _check_ctf(found: Found) -> None:
    """A CTF is whole or absent: a file with any defocus must give all six values on every row."""
    if not any(name.startswith("defocus") for name in found.columns):
        for name in _NEEDED_FOR_CTF[3:]:
            value = found.columns.get(name)
            if value is not None and _first_bad(value, found.n) is not None:
                found.columns.pop(name)
        return
    for name in _NEEDED_FOR_CTF:
        if name not in found.columns:
            raise InputError(
                f"{found.source}: the CTF is incomplete: column {found.label(name)} is missing; "
                "add it or remove all of the CTF."
            )
        row = _first_bad(found.columns[name], found.n)
        if row is not None:
            raise InputError(
                f"{found.source}, row {row + 1}: {found.label(name)} is not a number; the CTF needs it on every row."
            )
    for name, low, high, unit in _PLAUSIBLE:
        values = np.broadcast_to(np.asarray(found.columns[name], dtype=float), found.n)
        bad = np.flatnonzero((values < low) | (values > high))
        if len(bad):
            value = f"{values[bad[0]]:g} {unit}".strip()
            raise InputError(
                f"{found.source}, row {bad[0] + 1}: {found.label(name)} is {value}; expected {low} to {high}: mend it."
            )


def _single(found: Found, value: Any, what: str, unit: str) -> float:
    """The one value that all particles share, 0 where the file is silent."""
    if value is None:
        return 0.0
    every = np.asarray(value, dtype=float)
    row = _first_bad(every.max(-1) if every.ndim > 1 else every, found.n)
    if row is not None:
        raise InputError(f"{found.source}, row {row + 1}: the {what} is not a number: mend the row.")
    values = np.unique(every)
    if len(values) and np.isfinite(values).all() and values.max() - values.min() > 1e-4 * abs(values.max()):
        listed = ", ".join(f"{v:g}" for v in values)
        raise InputError(
            f"{found.source}: optics groups differ in {what} ({listed} {unit}); expected one: "
            "select one group or rescale them."
        )
    if not len(values) or not np.isfinite(values[0]) or values[0] <= 0:
        raise InputError(f"{found.source}: the {what} is {values[:1]} {unit}; expected a positive one: mend the file.")
    return float(values[0])


def _check_stacks(found: Found, table: pd.DataFrame, require_images: bool) -> Stack | None:
    """Compare the headers of the stacks that exist with the table; the first of them, or None."""
    names = table["image_file"].cat
    codes = names.codes.to_numpy()
    last = np.full(len(names.categories), -1)
    np.maximum.at(last, codes, table["image_index"].to_numpy())
    first: Stack | None = None
    for code in np.flatnonzero(last >= 0):
        name, index = str(names.categories[code]), int(last[code])
        exists = os.path.isfile(name)
        if not exists and require_images:
            row = int(np.flatnonzero(codes == code)[0])
            raise InputError(f"{found.source}, row {row + 1}: {name} does not exist; give its folder as datadir.")
        if not exists or (first is not None and code > _STACKS_CHECKED):
            continue
        stack = read_stack(name)
        if len(stack) <= index:
            at = int(np.flatnonzero((codes == code) & (table["image_index"].to_numpy() == index))[0])
            raise InputError(
                f"{found.source}, row {at + 1}: asks for image {index + 1} of {name}, which holds {len(stack)}: "
                "give the right stack."
            )
        _check_shape(found, stack, first)
        first = stack if first is None else first
    return first


def _check_shape(found: Found, stack: Stack, first: Stack | None) -> None:
    _, ny, nx = stack.shape
    if ny != nx:
        raise InputError(f"{stack.path}: the images are {ny}x{nx} pixels; expected squares: extract them again.")
    if first is not None and first.shape[1:] != stack.shape[1:]:
        raise InputError(
            f"{found.source}: stacks differ in box, {first.path} has {first.shape[1]} and {stack.path} {nx}; "
            "rescale them to one."
        )
    stated = None if found.box is None else np.unique(np.asarray(found.box))
    if stated is not None and len(stated) == 1 and stated[0] != nx:
        raise InputError(
            f"{found.source} says the box is {stated[0]:g}, but {stack.path} holds images of {nx}x{nx}: mend one."
        )
