"""Arrays in numpy's own format, which cryoSPARC's tables are, too."""

import math
from pathlib import Path

import numpy as np

from cryoloom.data.files import existing, reading
from cryoloom.errors import InputError


def read_array(path: str | Path, what: str, advice: str = "copy or write it again") -> np.ndarray:
    """The array in a .npy file; raises InputError for any other, and for one that is shorter than its header states."""
    path = existing(path, what)
    with reading(path, what, advice), path.open("rb") as stream:
        if stream.read(6) != np.lib.format.MAGIC_PREFIX:
            raise InputError(f"{path} is not a {what}: it lacks the numpy header; {advice}.")
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read_header(stream)
        if kind.hasobject:
            raise InputError(f"{path} holds Python objects, which could run any program; expected numbers: {advice}.")
        # Before memory is asked for: a damaged header may state any size.
        needed, there = math.prod(shape) * kind.itemsize, path.stat().st_size - stream.tell()
        if min(shape, default=1) < 0 or needed > there:
            raise InputError(f"{path} is cut short: its header states {needed:,} bytes, {there:,} are there: {advice}.")
        stream.seek(0)
        return np.load(stream, allow_pickle=False)
