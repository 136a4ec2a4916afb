"""RELION's STAR files, read: versions 3.0, 3.1, 4 and 5, and the dialects of Scipion, Warp and hand-written files.

Conventions that end here: rlnOriginXAngst is the negative of our shift; rlnOriginX is the same in pixels; angles become
matrices; image numbers start at 1; Warp writes dose weights as negative B-factors, RELION as positive ones.
"""

import gzip
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile
import torch
from gemmi import cif

from cryoloom.data.assemble import Found
from cryoloom.data.files import existing, reading
from cryoloom.data.findings import Finding
from cryoloom.data.stacks import locate_stacks
from cryoloom.data.unused import RELION_TERMS, unused_terms
from cryoloom.errors import InputError
from cryoloom.physics.so3 import matrix_from_euler

# Column of the table ← label of the file, for what needs no conversion.
PLAIN = {
    "voltage_kv": "rlnVoltage",
    "cs_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "defocus_u": "rlnDefocusU",
    "defocus_v": "rlnDefocusV",
    "defocus_angle": "rlnDefocusAngle",
    "phase_shift": "rlnPhaseShift",
    "b_factor": "rlnCtfBfactor",
    "half_set": "rlnRandomSubset",
    "optics_group": "rlnOpticsGroup",
    "frame": "cryoloomFrame",
}
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
# Names that older files of ours have.
_OLDER = {"movie_id": "cryoloomMovieId", "frame": "cryoloomFrame"}
# Labels whose meaning is held by canonical columns; every other label of a row is kept as it is.
_CONSUMED = {*PLAIN.values(), *ANGLES, *_OLDER, "rlnImageName", "rlnMicrographName", "cryoloomMovieId", "half_set"}
_CONSUMED |= {"rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX", "rlnOriginY"}
_TREATED = {
    "rlnCtfDataAreCtfPremultiplied": "multiplied by their CTF",
    "rlnCtfDataArePhaseFlipped": "phase-flipped",
}
_MICROGRAPH_PIXEL_SIZES = ("rlnMicrographOriginalPixelSize", "rlnMicrographPixelSize")
_MOVIE = ["movie_id", "cryoloomMovieId", "rlnTomoName"]
_STRINGS = ["rlnImageName", "rlnMicrographName", "rlnOpticsGroupName", "rlnOddZernike", "rlnEvenZernike", *_MOVIE]


def read_blocks(path: str | Path) -> dict[str, pd.DataFrame]:
    """All loops and lists of a STAR file (gz too) as tables by block name; raises InputError if it cannot be read."""
    path = existing(path, "STAR file")
    if path.suffix == ".gz":
        with tempfile.NamedTemporaryFile(suffix=".star") as copy:
            try:
                with gzip.open(path, "rb") as packed:
                    shutil.copyfileobj(packed, copy)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(f"{path}: cannot be decompressed ({error}): copy it again.") from error
            copy.flush()
            return _parse(Path(copy.name), path)
    return _parse(path, path)


def _parse(path: Path, shown: Path) -> dict[str, pd.DataFrame]:
    text, utf8 = _text_labels(path, shown)
    with _as_utf8(path, utf8) as readable:
        try:
            blocks = starfile.read(readable, always_dict=True, parse_as_string=text)
            tables = {str(name): _as_table(block) for name, block in blocks.items()}
        except Exception:
            # starfile raises whatever pandas and shlex raise; gemmi is strict and tells where the grammar is broken.
            tables = _parse_strictly(readable, shown)
    if not tables:
        raise InputError(f"{shown} is not a STAR file: it has no data_ block; expected RELION metadata.")
    return tables


def _text_labels(path: Path, shown: Path) -> tuple[list[str], bool]:
    """Labels of the file whose values are texts, digits or not; and whether it is UTF-8.

    Raises InputError where a loop has a label twice.
    """
    seen: set[str] = set()
    text, utf8 = set(_STRINGS), True
    with reading(shown, "STAR file"), path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            utf8 = utf8 and "\ufffd" not in line
            words = line.lstrip()
            if words.startswith(("data_", "loop_")):
                seen = set()
            elif words.startswith("_"):
                label = words.split(maxsplit=1)[0][1:]
                if label in seen:
                    raise InputError(f"{shown}, line {number}: the label {label} stands twice: remove one.")
                seen.add(label)
                if label.endswith("Name"):
                    text.add(label)
    return sorted(text), utf8


@contextmanager
def _as_utf8(path: Path, utf8: bool) -> Iterator[Path]:
    """The file, or a copy of it in UTF-8 where it is in Latin-1."""
    if utf8:
        yield path
        return
    with tempfile.NamedTemporaryFile("w", suffix=".star", encoding="utf-8") as copy:
        with path.open(encoding="latin-1") as stream:
            shutil.copyfileobj(stream, copy)
        copy.flush()
        yield Path(copy.name)


def _as_table(block: Any) -> pd.DataFrame:
    if block is None:
        return pd.DataFrame()
    return block if isinstance(block, pd.DataFrame) else pd.DataFrame({name: [value] for name, value in block.items()})


def _parse_strictly(path: Path, shown: Path) -> dict[str, pd.DataFrame]:
    try:
        document = cif.read_string(path.read_text(encoding="utf-8", errors="replace"))
    except Exception as error:
        place = re.search(r":(\d+):", str(error))
        where = f"{shown}, line {place.group(1)}" if place else str(shown)
        reason = re.sub(r"^.*?:\d+:\d+(\(\d+\))?:?\s*", "", str(error)).strip().splitlines()
        raise InputError(
            f"{where}: the STAR file cannot be parsed ({reason[0] if reason else 'unreadable'}): mend the rows there."
        ) from error
    tables: dict[str, pd.DataFrame] = {}
    block: Any
    for block in document:
        pairs: dict[str, list[str]] = {}
        for item in block:
            if item.pair is not None:
                pairs[item.pair[0][1:]] = [cif.as_string(item.pair[1])]
            elif item.loop is not None:
                loop = item.loop
                values = [cif.as_string(value) for value in loop.values]
                columns = {tag[1:]: values[i :: loop.width()] for i, tag in enumerate(loop.tags)}
                tables.setdefault(block.name.strip(), pd.DataFrame(columns))
        if pairs:
            tables.setdefault(block.name.strip(), pd.DataFrame(pairs))
    return {name: _map_columns(table, _numbers) for name, table in tables.items()}


def _map_columns(table: pd.DataFrame, function: Callable[[Any], Any]) -> pd.DataFrame:
    return pd.DataFrame({name: function(table[name]) for name in table.columns}, index=table.index)


def _numbers(column: Any) -> Any:
    if column.name in _STRINGS or str(column.name).endswith("Name"):
        return column
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def _as_numbers(values: Any) -> np.ndarray:
    """Values as floats, NaN for what is no number."""
    return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=float)


def find_star(path: str | Path, datadir: str | Path | None = None) -> Found:
    """What a particle STAR file says, images or not; raises InputError if it holds no 2-D particles or broken rows."""
    source = existing(path, "STAR file")
    blocks = read_blocks(source)
    name = next((name for name in ("particles", "images", *blocks) if "rlnImageName" in blocks.get(name, ())), None)
    if name is None:
        listed = ", ".join(f"data_{block}" for block in blocks)
        raise InputError(f"{source} holds no particles: no rlnImageName in {listed}; expected a particle STAR file.")
    table = blocks[name].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{source} holds no particles: data_{name} has labels and no rows.")
    optics = blocks.get("optics")
    rows = _with_optics(table, optics, source)
    rows = rows.rename(columns={old: new for old, new in _OLDER.items() if new not in rows})
    _refuse_unsupported(rows, source)
    labels = {**PLAIN, "shift_x": "rlnOriginX", "shift_y": "rlnOriginY", "image_index": "the number in rlnImageName"}
    found = Found(source, len(table), optics=optics, labels=labels)
    files, index, found.findings = _image_names(rows["rlnImageName"], source, datadir)
    found.columns |= {"image_file": files, "image_index": index}
    found.findings += unused_terms(rows, RELION_TERMS)
    for column, label in PLAIN.items():
        if label in rows:
            found.columns[column] = _values(rows, label, source)
    if "half_set" not in found.columns and "half_set" in rows:
        found.columns["half_set"] = _values(rows, "half_set", source)
    if "b_factor" in found.columns:
        found.columns["b_factor"] = np.abs(found.columns["b_factor"])
    for column, label in (("micrograph_name", "rlnMicrographName"), ("movie_id", "cryoloomMovieId")):
        if label in rows:
            found.columns[column] = pd.Categorical(rows[label].astype(str))
    _find_places(found, rows)
    found.box = _values(rows, "rlnImageSize", source) if "rlnImageSize" in rows else None
    found.pixel_size = _pixel_size(rows, source)
    _find_poses(found, rows)
    kept = [column for column in table.columns if column not in _CONSUMED]
    found.extra = _map_columns(table.loc[:, kept], _compact) if kept else None
    return found


def _with_optics(table: pd.DataFrame, optics: pd.DataFrame | None, source: Path) -> pd.DataFrame:
    """The rows with the columns of their optics group beside their own."""
    if optics is None or "rlnOpticsGroup" not in optics:
        return table
    groups = optics.set_index("rlnOpticsGroup")
    if not groups.index.is_unique:
        raise InputError(f"{source}: data_optics names an rlnOpticsGroup twice; expected each once: mend the table.")
    if "rlnOpticsGroup" not in table:
        if len(optics) > 1:
            raise InputError(f"{source}: particles lack rlnOpticsGroup, but there are {len(optics)} groups: add it.")
        group = np.full(len(table), groups.index[0])
    else:
        group = table["rlnOpticsGroup"].to_numpy()
    places = groups.index.get_indexer(pd.Index(group))
    if (places < 0).any():
        row = int(np.flatnonzero(places < 0)[0])
        raise InputError(f"{source}, row {row + 1}: rlnOpticsGroup {group[row]} is not in data_optics: mend one.")
    added = {label: groups[label].to_numpy()[places] for label in groups.columns if label not in table}
    return table.assign(rlnOpticsGroup=group, **added)


def _refuse_unsupported(rows: pd.DataFrame, source: Path) -> None:
    numbered = any("@" in str(name) for name in rows["rlnImageName"].head(100))
    volumes = {"rlnCtfImage", "rlnCoordinateZ"} <= set(rows.columns) and not numbered
    if volumes or ("rlnImageDimensionality" in rows and (_as_numbers(rows["rlnImageDimensionality"]) == 3).any()):
        raise InputError(f"{source} holds subtomograms (3-D images); expected 2-D images: extract 2-D particles.")
    for label, what in _TREATED.items():
        if label in rows and (_as_numbers(rows[label]) == 1).any():
            raise InputError(f"{source}: the images are already {what} ({label}); expected raw ones: extract again.")


def _image_names(
    names: Any, source: Path, datadir: str | Path | None
) -> tuple[pd.Categorical, np.ndarray, list[Finding]]:
    """Stacks and 0-based image numbers of `000001@stack` names; a name without a number is a single image."""
    parts = names.astype(str).str.rpartition("@")
    number = _as_numbers(parts[0].replace("", "1"))
    bad = np.flatnonzero(~(number >= 1) | np.asarray((parts[2] == "") | (parts[2] == "nan")))
    if len(bad):
        raise InputError(
            f"{source}, row {bad[0] + 1}: rlnImageName is {names.iloc[bad[0]]!r}; expected 000001@stack.mrcs: mend it."
        )
    files, located = locate_stacks(pd.Categorical(parts[2]), source, datadir)
    return files, number - 1, located


def _values(rows: pd.DataFrame, label: str, source: Path) -> np.ndarray:
    values = _as_numbers(rows[label])
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{source}, row {bad[0] + 1}: {label} is {rows[label].iloc[bad[0]]!r}; expected a number: mend it."
        )
    return values


def _pixel_size(rows: pd.DataFrame, source: Path) -> np.ndarray | None:
    if "rlnImagePixelSize" in rows:
        return _values(rows, "rlnImagePixelSize", source)
    if {"rlnDetectorPixelSize", "rlnMagnification"} <= set(rows.columns):
        magnification = _values(rows, "rlnMagnification", source)
        if (magnification <= 0).any():
            row = int(np.flatnonzero(magnification <= 0)[0])
            raise InputError(f"{source}, row {row + 1}: rlnMagnification is {magnification[row]:g}; expected above 0.")
        # Detector pixels are in µm.
        return _values(rows, "rlnDetectorPixelSize", source) * 1e4 / magnification
    return _values(rows, "rlnPixelSize", source) if "rlnPixelSize" in rows else None


def _find_places(found: Found, rows: pd.DataFrame) -> None:
    """Where on its micrograph each particle lies, in Å, and which rows are images of one particle."""
    if {"rlnCoordinateX", "rlnCoordinateY"} <= set(rows.columns):
        label = next((name for name in _MICROGRAPH_PIXEL_SIZES if name in rows), None)
        pixel = _as_numbers(rows[label]) if label else _pixel_size(rows, found.source)
        for axis in "xy":
            at = _as_numbers(rows[f"rlnCoordinate{axis.upper()}"])
            found.columns[f"coordinate_{axis}"] = at * (1.0 if pixel is None else pixel)
    if "rlnTomoParticleName" in rows:
        found.columns["original"] = pd.Categorical(rows["rlnTomoParticleName"].astype(str)).codes.astype(int) + 1


def _find_poses(found: Found, rows: pd.DataFrame) -> None:
    if not set(ANGLES) <= set(rows.columns):
        return
    degrees = np.stack([_values(rows, label, found.source) for label in ANGLES], -1)
    found.rotation = matrix_from_euler(torch.from_numpy(degrees)).float().numpy()
    for axis in "XY":
        angst, pixels = f"rlnOrigin{axis}Angst", f"rlnOrigin{axis}"
        if angst in rows:
            found.columns[f"shift_{axis.lower()}"] = -_values(rows, angst, found.source)
        elif pixels in rows:
            found.columns[f"shift_{axis.lower()}"] = -_values(rows, pixels, found.source)
            found.shift_in_pixels = True


def _compact(column: Any) -> Any:
    """Repeated strings stored once."""
    return column.astype("category") if column.dtype == object else column
