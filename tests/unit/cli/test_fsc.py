"""cryoloom fsc: maps of two searches lie on each other only after --align."""

from pathlib import Path

import torch

from cryoloom.cli.fsc import fsc
from cryoloom.data.mrc import write_volume
from cryoloom.physics.rigid import apply_to_volume, mirror_volume
from cryoloom.physics.so3 import random_rotations


def test_a_turned_and_mirrored_map_is_laid_on_the_first(blobs: torch.Tensor, tmp_path: Path, capsys) -> None:
    rotation = random_rotations(1, torch.Generator().manual_seed(3))[0]
    first, second = tmp_path / "first.mrc", tmp_path / "second.mrc"
    write_volume(first, blobs, 2.0)
    write_volume(second, mirror_volume(apply_to_volume(blobs, rotation)), 2.0)
    fsc(first, second, threshold=0.5)
    apart = _resolution(capsys.readouterr().out)
    fsc(first, second, threshold=0.5, align=True)
    said = capsys.readouterr().out
    assert "mirrored" in said
    assert apart > 12
    assert _resolution(said) < 8


def _resolution(said: str) -> float:
    return float(said.split("resolution ")[1].split()[0])
