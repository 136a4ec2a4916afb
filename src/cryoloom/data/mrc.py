"""MRC volumes and image stacks: any mode and byte order, compressed or not, read lazily."""

import bz2
import gzip
import io
import math
import os
import shutil
import tempfile
import warnings
import weakref
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

import mrcfile
import numpy as np
import torch
from mrcfile.mrcinterpreter import MrcInterpreter
from torch import Tensor

from cryoloom.data.files import existing, reading, replacing
from cryoloom.errors import InputError

_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open}


class Stack:
    """A stack of images (n, ny, nx) in an MRC file: nothing is read before it is asked for.

    path: where it lies. shape: (n, ny, nx). pixel_size: (x, y, z) in Å from the header, 0 where it gives none. axes:
    order of the file's columns, rows and sections, (1, 2, 3) for x, y, z. Raises InputError for what is no sound MRC.
    """

    def __init__(self, path: str | Path):
        self.path = existing(path, "MRC file")
        with reading(self.path, "MRC file"), self._stream() as stream:
            header = self._header(stream)
            mode = int(header.mode)
            if mode not in _MODES:
                raise InputError(f"{self.path}: MRC mode {mode} is not supported; expected one of 0, 1, 2, 6, 12.")
            self.shape = (int(header.nz), int(header.ny), int(header.nx))
            if min(self.shape) < 1:
                raise InputError(f"{self.path}: the MRC header says {self.shape} (z, y, x) pixels: the file is broken.")
            self._dtype = np.dtype(_MODES[mode]).newbyteorder(header.dtype["mode"].byteorder)
            self._offset = 1024 + max(0, int(header.nsymbt))
            self._check_length(stream, self._offset + math.prod(self.shape) * self._dtype.itemsize)
            cell = np.array([header.cella.x, header.cella.y, header.cella.z], dtype=float)
            sampling = np.array([header.mx, header.my, header.mz], dtype=float)
            self.pixel_size = tuple(np.divide(cell, sampling, out=np.zeros(3), where=sampling > 0).round(5).tolist())
            axes = (int(header.mapc), int(header.mapr), int(header.maps))
            self.axes = axes if sorted(axes) == [1, 2, 3] else (1, 2, 3)
            self.is_volume = 1 <= int(header.ispg) < 400
            self._descriptor = os.dup(stream.fileno())
            weakref.finalize(self, os.close, self._descriptor)

    def _stream(self) -> IO[bytes]:
        opener = _COMPRESSED.get(self.path.suffix)
        if opener is None:
            return self.path.open("rb")
        # A nameless temporary file keeps memory flat however large the stack is, and vanishes with the map.
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            with opener(self.path, "rb") as packed:
                shutil.copyfileobj(packed, copy, 1 << 20)
        except (OSError, EOFError, zlib.error) as error:
            copy.close()
            raise InputError(f"{self.path}: cannot be decompressed ({error}): copy it again.") from error
        copy.seek(0)
        return copy

    def _header(self, stream: IO[bytes]) -> np.recarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # A copy of the header: the interpreter rewrites and cuts a stream that it could write to.
                first = io.BytesIO(stream.read(1024))
                reader = MrcInterpreter(iostream=first, permissive=True, header_only=True)
        except ValueError as error:
            raise InputError(f"{self.path}: not an MRC file ({error}); expected a .mrc or .mrcs image file.") from error
        if reader.header is None:
            raise InputError(f"{self.path}: not an MRC file; expected a header of 1024 bytes.")
        return reader.header

    def _check_length(self, stream: IO[bytes], expected: int) -> None:
        length = stream.seek(0, os.SEEK_END)
        if length < expected:
            n, ny, nx = self.shape
            raise InputError(
                f"{self.path}: the file is truncated: {n} sections of {ny}x{nx} need {expected} bytes, "
                f"it has {length}; copy or write it again."
            )

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, indices: np.ndarray | list[int] | slice | None = None) -> np.ndarray:
        """Images (b, ny, nx), float32, at `indices` (b,), from zero and in any order; all of them without it."""
        # Not a memory map: pages once read would count as this process's memory until a stack of any size is all of it.
        wanted = np.arange(len(self))[slice(None) if indices is None else indices]
        images = np.empty((len(wanted), *self.shape[1:]), self._dtype)
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        for first, run in zip([0, *breaks], np.split(images, breaks), strict=True):
            if len(run):
                self._fill(run, self._offset + int(wanted[first]) * images[0].nbytes)
        return images.astype(np.float32, copy=False)

    def _fill(self, images: np.ndarray, offset: int) -> None:
        rest = images.reshape(-1).view(np.uint8).data
        while rest:
            count = os.preadv(self._descriptor, [rest], offset)
            if not count:
                raise InputError(f"{self.path}: the file was cut short while it was read: copy or write it again.")
            rest, offset = rest[count:], offset + count


@lru_cache(maxsize=64)
def _open(path: str, modified: int, size: int) -> Stack:
    return Stack(path)


def read_stack(path: str | Path) -> Stack:
    """The `Stack` in the MRC file `path`; the 64 most recently used stay open. Raises InputError."""
    path = existing(path, "MRC stack")
    status = path.stat()
    return _open(str(path), status.st_mtime_ns, status.st_size)


def read_volume(path: str | Path, *, pixel_size: float | None = None) -> tuple[Tensor, float]:
    """A cubic volume (D, D, D) = (z, y, x), float32, and its voxel size in Å (`pixel_size` overrides the header's).

    Raises InputError if the file is unsound, not cubic, or gives no single voxel size.
    """
    stack = Stack(path)
    if len(set(stack.shape)) != 1:
        raise InputError(f"{path}: the volume has {stack.shape} (z, y, x) voxels; expected a cube: crop or pad it.")
    x, y, z = stack.pixel_size
    if pixel_size is None and not (x > 0 and abs(x - y) < 1e-3 * x and abs(x - z) < 1e-3 * x):
        raise InputError(
            f"{path}: the header's voxel size is ({x:g}, {y:g}, {z:g}) Å; expected one positive number: set it there."
        )
    data = np.transpose(stack.read(), _to_zyx(stack.axes))
    volume = torch.from_numpy(np.ascontiguousarray(data))
    if not bool(torch.isfinite(volume).all()):
        raise InputError(f"{path}: the volume holds values that are not finite: write it again.")
    return volume, float(pixel_size if pixel_size is not None else x)


def _to_zyx(axes: tuple[int, int, int]) -> list[int]:
    """Order of array axes (sections, rows, columns) that puts z, y, x first to last, of MAPC, MAPR, MAPS."""
    stored = axes[::-1]
    return [stored.index(axis) for axis in (3, 2, 1)]


def write_volume(path: str | Path, volume: Tensor | np.ndarray, pixel_size: float) -> None:
    """Write a volume (D, D, D) = (z, y, x) as a mode-2 MRC2014 map with voxels of `pixel_size` Å."""
    data = torch.as_tensor(volume).detach().cpu().numpy().astype(np.float32, copy=False)
    with replacing(path) as temporary, mrcfile.new(temporary, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(data))
        mrc.set_volume()
        mrc.voxel_size = pixel_size


def write_stack(path: str | Path, images: Iterable[Tensor | np.ndarray], n: int, box: int, pixel_size: float) -> None:
    """Write `n` images from batches (b, box, box), one batch in memory at a time, as a mode-2 MRC stack.

    Raises ValueError if the batches do not hold `n` images of `box`².
    """
    shape = (n, box, box)
    with replacing(path) as temporary, mrcfile.new_mmap(temporary, shape=shape, mrc_mode=2, overwrite=True) as mrc:
        data = cast(np.ndarray, mrc.data)
        done = 0
        for batch in images:
            block = torch.as_tensor(batch).detach().cpu().numpy()
            if block.shape[1:] != (box, box) or done + len(block) > n:
                raise ValueError(f"expected {n} images of {box}x{box}, got a batch {block.shape} after {done}")
            data[done : done + len(block)] = block
            done += len(block)
        if done != n:
            raise ValueError(f"expected {n} images, got {done}")
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size
        mrc.update_header_stats()
