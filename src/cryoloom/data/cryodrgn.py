"""cryoDRGN's pickles: pose.pkl, ctf.pkl, ind.pkl, read without running what a pickle could contain.

Its rotations are ours, x_image = R x_volume; its translations are rlnOrigin in fractions of the box, the negative of
our shift. A CTF row is box, Å/px, defocus U, V (Å), angle (deg), kV, Cs (mm), amplitude contrast, phase (deg).
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoloom.data.files import existing, reading, replacing
from cryoloom.data.npy import read_array
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError

_CTF_COLUMNS = [
    "box",
    "pixel_size",
    "defocus_u",
    "defocus_v",
    "defocus_angle",
    "voltage_kv",
    "cs_mm",
    "amplitude_contrast",
    "phase_shift",
]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain containers, and refuses every other global: a pickle can run any of them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_pickle(path: str | Path) -> Any:
    """Numpy arrays, numbers, tuples, lists and dicts of a pickle; raises InputError if it holds anything else."""
    path = existing(path, "pickle")
    try:
        with path.open("rb") as stream:
            return _ArrayUnpickler(stream).load()
    except Exception as error:
        raise InputError(f"{path}: not a pickle of numpy arrays ({error}); expected what cryoDRGN writes.") from error


def _array(value: Any, path: str | Path) -> np.ndarray:
    """A pickled value as an array of numbers."""
    with reading(path, "array of numbers", "expected what cryoDRGN writes"):
        found = np.asarray(value)
        return found if found.dtype.kind in "biuf" else found.astype(np.float64)


def read_pose_pickle(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (N, 3, 3), x_image = R x_volume, and translations (N, 2) in fractions of the box, zero where absent."""
    loaded = read_pickle(path)
    rotation, *rest = loaded if isinstance(loaded, tuple | list) and len(loaded) else (loaded,)
    rotation = _array(rotation, path)
    translation = _array(rest[0], path) if rest else np.zeros((len(np.atleast_1d(rotation)), 2))
    if rotation.ndim != 3 or rotation.shape[1:] != (3, 3) or translation.shape != (len(rotation), 2):
        shapes = f"{rotation.shape}, {translation.shape}"
        raise InputError(f"{path} holds arrays {shapes}; expected rotations (N, 3, 3) and translations (N, 2).")
    finite = np.isfinite(rotation).all(axis=(1, 2)) & np.isfinite(translation).all(axis=1)
    if not finite.all():
        raise InputError(f"{path}, row {int(np.flatnonzero(~finite)[0]) + 1}: the pose is no number: remove the row.")
    skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    if skew.max() > 1e-2 or np.linalg.det(rotation).min() < 0:
        raise InputError(f"{path}, row {int(skew.argmax()) + 1}: the matrix is no rotation: give another file.")
    if np.abs(translation).max() > 1:
        # What cryoDRGN's ab initio writes itself; its own loaders misread it.
        raise InputError(
            f"{path}: translations reach {np.abs(translation).max():.1f}; expected fractions of the box: "
            "divide pixels by the box."
        )
    return rotation.astype(np.float32), translation.astype(np.float32)


def read_ctf_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """CTF columns (N,) of a ctf.pkl by canonical name, and the `box` (px) and `pixel_size` (Å) it is for."""
    table = _array(read_pickle(path), path)
    if table.ndim != 2 or table.shape[1] not in (8, 9):
        raise InputError(f"{path} holds an array {table.shape}; expected (N, 9): box, Å/px, defocus, kV, Cs, w, phase.")
    if table.shape[1] == 8:
        table = np.concatenate([table, np.zeros((len(table), 1), table.dtype)], 1)
    return {name: table[:, i].astype(np.float64) for i, name in enumerate(_CTF_COLUMNS)}


def read_index_pickle(path: str | Path, n: int) -> np.ndarray:
    """Rows (b,) of an ind.pkl or .npy, each in 0 … n − 1; raises InputError for any other."""
    path = existing(path, "index file")
    rows = read_array(path, "list of row numbers") if path.suffix == ".npy" else _array(read_pickle(path), path)
    if rows.dtype == bool and rows.shape == (n,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or not len(rows):
        raise InputError(f"{path} holds an array {rows.dtype} {rows.shape}; expected a list of row numbers.")
    if rows.min() < 0 or rows.max() >= n:
        raise InputError(f"{path} asks for row {rows.max() if rows.max() >= n else rows.min()}; expected 0 to {n - 1}.")
    return rows


def _dump(path: Path, *values: Any) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        for value in values:
            pickle.dump(value, stream, protocol=4)


def write_latent_pickle(path: Path, mean: np.ndarray, log_var: np.ndarray) -> None:
    """Write cryoDRGN's z.pkl: mean, then log variance (N, Z), one pickle after the other."""
    _dump(path, mean.astype(np.float32), log_var.astype(np.float32))


def write_pickles(folder: str | Path, particles: Particles) -> list[Path]:
    """Write pose.pkl and ctf.pkl into `folder`, as far as the particles have poses and CTF; the paths written."""
    folder, written = Path(folder), []
    size = particles.source_box * particles.source_pixel_size
    if particles.has_poses:
        pose = particles.poses()
        _dump(folder / "pose.pkl", (pose.best_rotation.numpy(), (-pose.best_shift / size).numpy()))
        written.append(folder / "pose.pkl")
    if particles.has_ctf:
        table = particles.table[_CTF_COLUMNS[2:]].to_numpy(dtype=np.float32)
        sizes = torch.tensor([particles.source_box, particles.source_pixel_size]).expand(len(table), 2).numpy()
        _dump(folder / "ctf.pkl", np.concatenate([sizes.astype(np.float32), table], 1))
        written.append(folder / "ctf.pkl")
    return written
