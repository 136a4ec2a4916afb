"""MRC files: what is written reads back, what is broken is refused, memory stays flat."""

import bz2
import gzip
import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryoloom.data import read_stack, read_volume, write_stack, write_volume
from cryoloom.errors import InputError


def test_volume_round_trip(tmp_path: Path) -> None:
    volume = torch.randn(8, 8, 8)
    write_volume(tmp_path / "sub" / "v.mrc", volume, 1.37)
    again, pixel_size = read_volume(tmp_path / "sub" / "v.mrc")
    assert torch.equal(again, volume)
    assert pixel_size == pytest.approx(1.37, abs=1e-5)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["v.mrc"]
    assert mrcfile.validate(tmp_path / "sub" / "v.mrc")


def test_axes_of_a_volume_are_put_in_order(tmp_path: Path) -> None:
    volume = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    with mrcfile.new(tmp_path / "v.mrc") as mrc:
        mrc.set_data(volume.transpose(1, 2, 0).copy())
        mrc.voxel_size = 1.0
        # Columns run along z, rows along x, sections along y.
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 1, 2
    assert np.array_equal(read_volume(tmp_path / "v.mrc")[0].numpy(), volume)


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
@pytest.mark.parametrize("packer", [None, gzip.open, bz2.open])
def test_stack_modes_and_compression(tmp_path: Path, dtype: str, packer) -> None:
    data = np.arange(5 * 4 * 4).reshape(5, 4, 4).astype(dtype)
    path = tmp_path / "s.mrcs"
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        mrc.set_image_stack()
        mrc.voxel_size = 2.0
    if packer is not None:
        packed = tmp_path / ("s.mrcs.gz" if packer is gzip.open else "s.mrcs.bz2")
        with packer(packed, "wb") as stream:
            stream.write(path.read_bytes())
        path = packed
    stack = read_stack(path)
    assert stack.shape == (5, 4, 4)
    assert stack.pixel_size == (2, 2, 2)
    read = stack.read([4, 0, 4])
    assert read.dtype == np.float32
    assert np.array_equal(read, data[[4, 0, 4]].astype(np.float32))
    if packer is not None:
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match=r"cannot be decompressed|truncated"):
            read_stack(path)


def test_stack_is_written_batch_by_batch_and_counted(tmp_path: Path) -> None:
    batches = [torch.randn(3, 6, 6), torch.randn(2, 6, 6)]
    write_stack(tmp_path / "s.mrcs", iter(batches), 5, 6, 1.5)
    assert np.array_equal(read_stack(tmp_path / "s.mrcs").read(), torch.cat(batches).numpy())
    with pytest.raises(ValueError, match="expected 6 images"):
        write_stack(tmp_path / "t.mrcs", iter(batches), 6, 6, 1.5)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mrcs"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not an MRC"), (b"\x00" * 500, "not an MRC"), (b"hello world " * 200, "MRC"), (b"\x00" * 2000, "MRC")],
)
def test_what_is_no_mrc_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.mrcs"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_stack(path)
    assert "x.mrcs" in str(caught.value)


def test_missing_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_stack(tmp_path / "none.mrcs")
    with pytest.raises(InputError, match="is a folder"):
        read_stack(tmp_path)


def test_volume_without_voxel_size_needs_one(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.mrc", torch.zeros(4, 4, 4), 0.0)
    with pytest.raises(InputError, match="voxel size"):
        read_volume(tmp_path / "v.mrc")
    assert read_volume(tmp_path / "v.mrc", pixel_size=3.0)[1] == 3.0


def test_a_rewritten_stack_is_read_anew(tmp_path: Path) -> None:
    write_stack(tmp_path / "s.mrcs", [torch.zeros(1, 4, 4)], 1, 4, 1.0)
    assert read_stack(tmp_path / "s.mrcs").read().max() == 0
    write_stack(tmp_path / "s.mrcs", [torch.ones(2, 4, 4)], 2, 4, 1.0)
    assert read_stack(tmp_path / "s.mrcs").read().min() == 1


def test_images_read_in_any_order_are_the_images_of_the_file(tmp_path: Path):
    """Neighbours are read together, so gaps, steps back and repeats are where that could go wrong."""
    pixels = np.random.default_rng(0).normal(size=(20, 6, 8)).astype(np.float32)
    for name, dtype in (("a.mrcs", np.float32), ("b.mrcs", np.float16)):
        with mrcfile.new(tmp_path / name) as file:
            file.set_data(pixels.astype(dtype))
        stack = read_stack(tmp_path / name)
        for index in ([3, 4, 5, 11, 10, 10, 0], [], [-1, 2], slice(4, 18, 3), None):
            wanted = pixels.astype(dtype)[
                slice(None) if index is None else np.array(index, int) if index == [] else index
            ].astype(np.float32)
            np.testing.assert_array_equal(stack.read(index), wanted)


def test_a_stack_cut_short_while_in_use_is_a_sentence(tmp_path: Path):
    with mrcfile.new(tmp_path / "a.mrcs") as file:
        file.set_data(np.zeros((4, 8, 8), np.float32))
    stack = read_stack(tmp_path / "a.mrcs")
    os.truncate(tmp_path / "a.mrcs", 1024 + 3 * 256)
    with pytest.raises(InputError, match="cut short"):
        stack.read([3])
