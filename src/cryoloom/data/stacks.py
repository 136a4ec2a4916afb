"""Where the stacks that a particle file names lie on this disk."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from cryoloom.data.files import locate
from cryoloom.data.findings import Finding
from cryoloom.errors import InputError


def locate_stacks(
    names: pd.Categorical, source: Path, datadir: str | Path | None = None
) -> tuple[pd.Categorical, list[Finding]]:
    """Absolute paths (N,) of the stacks that `source` calls `names` (N,), two spellings of one path as one.

    Also what is worth saying: that stacks were found by their file names alone. Raises InputError where two names of
    different folders lead to one file, as rows would then read images of another stack.
    """
    written = [str(name).lstrip(">") for name in names.categories]
    paths = [str(locate(name, source, datadir)) for name in written]
    first: dict[str, str] = {}
    for name, path in zip(written, paths, strict=True):
        other = first.setdefault(path, name)
        if not _one_ends_like_the_other(name, other):
            raise InputError(
                f"{source} names two stacks, {other} and {name}, and both would be read from {path}: expected a folder "
                "that holds both, give it as --datadir."
            )
    found = _by_file_name_alone(written, paths)
    unique, code = np.unique(np.array(paths, dtype=object), return_inverse=True)
    return pd.Categorical.from_codes(code[names.codes], pd.Index(unique, dtype=object)), found


def _one_ends_like_the_other(a: str, b: str) -> bool:
    one, other = (Path(os.path.normpath(name)).parts for name in (a, b))
    short, long = sorted((one, other), key=len)
    short = short[1:] if short and short[0] == "/" and len(short) < len(long) else short
    return long[len(long) - len(short) :] == short


def _by_file_name_alone(names: list[str], paths: list[str]) -> list[Finding]:
    alone = [
        (name, path)
        for name, path in zip(names, paths, strict=True)
        if Path(name).parent.name not in ("", ".", "..", Path(path).parent.name) and os.path.isfile(path)
    ]
    if not alone:
        return []
    name, path = alone[0]
    return [Finding(f"{len(alone):,} stacks were found by their file names alone, such as {name} as {path}", False)]
