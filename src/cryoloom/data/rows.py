"""Some rows of a particle file, as they stand there: every column, every digit, every other table kept."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import starfile

from cryoloom.data.cryosparc import read_cs
from cryoloom.data.files import existing, replacing
from cryoloom.data.star import read_blocks
from cryoloom.errors import InputError


def kind_of(path: Path) -> str:
    """What a particle file is, by its name: ".star", ".cs" or another suffix; a packed one as what it holds."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in (".gz", ".bz2")]
    return suffixes[-1] if suffixes else ""


def copy_rows(source: Path, target: Path, rows: np.ndarray) -> bool:
    """Write the particles at `rows` (b,), from 0, of a .star or .cs `source` to `target` of the same kind.

    Rows stay in the file's order. False, with nothing written, where the two are not of one kind. Raises InputError
    where rows are gone.
    """
    kind = kind_of(source)
    if kind != kind_of(target) or kind not in (".star", ".cs"):
        return False
    (_copy_star if kind == ".star" else _copy_cs)(existing(source, "particle file"), target, rows)
    return True


def _check(rows: np.ndarray, n: int, source: Path) -> None:
    if len(rows) and rows.max() >= n:
        raise InputError(
            f"{source} has {n} particles, but particle {rows.max() + 1} is asked for: it is not the file that the run "
            "was made from."
        )


def _copy_cs(source: Path, target: Path, rows: np.ndarray) -> None:
    records = read_cs(source)
    _check(rows, len(records), source)
    with replacing(target) as temporary, temporary.open("wb") as stream:
        np.save(stream, records[np.sort(rows)], allow_pickle=False)


def _copy_star(source: Path, target: Path, rows: np.ndarray) -> None:
    blocks = read_blocks(source)
    name = next(name for name in ("particles", "images", *blocks) if "rlnImageName" in blocks.get(name, ()))
    _check(rows, len(blocks[name]), source)
    opener = gzip.open if source.suffix == ".gz" else open
    with opener(source, "rt", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        lines = stream.readlines()
    at = _row_lines(lines, name)
    with replacing(target) as temporary:
        if len(at) == len(blocks[name]):
            dropped = set(at) - {at[row] for row in rows}
            kept = (line for i, line in enumerate(lines) if i not in dropped)
            with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                stream.writelines(kept)
            return
        # Rows that are not one to a line keep their values, though not their layout.
        blocks[name] = blocks[name].iloc[rows]
        starfile.write(dict[str, Any](blocks), temporary, sep="\t", overwrite=True)


def _row_lines(lines: list[str], block: str) -> list[int]:
    """Numbers of the lines that hold the rows of the loop in block `block`."""
    found: list[int] = []
    within = labels = False
    for i, line in enumerate(lines):
        text = line.strip()
        if text.startswith("data_"):
            within, labels = text[5:] == block and not found, False
        elif within and text.startswith("_"):
            labels = True
        elif within and labels and text and not text.startswith("#"):
            found.append(i)
    return found
