"""cryoloom fsc: maps of two searches lie on each other only after --align."""

from pathlib import Path

import pytest
import torch

from cryoloom.cli.fsc import fsc
from cryoloom.data.mrc import write_volume
from cryoloom.errors import InputError
from cryoloom.physics.rigid import apply_to_volume, mirror_volume
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.em.masks import soft_sphere


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


def test_with_a_mask_the_correction_of_a_run_is_used(tmp_path: Path, capsys) -> None:
    """Halves that share an offset: a mask gives both its own frequencies, which are no resolution."""
    generator = torch.Generator().manual_seed(2)
    paths = {name: tmp_path / f"{name}.mrc" for name in ("a", "b", "mask")}
    for name in ("a", "b"):
        write_volume(paths[name], 5 + torch.randn(32, 32, 32, generator=generator), 2.0)
    write_volume(paths["mask"], soft_sphere(32, 9), 2.0)
    fsc(paths["a"], paths["b"], mask=paths["mask"], output=tmp_path / "fsc.csv")
    assert _resolution(capsys.readouterr().out) > 20
    assert (tmp_path / "fsc.csv").read_text().splitlines()[0] == "shell,resolution_angst,fsc,fsc_chance"


def test_an_inverted_map_is_named(blobs: torch.Tensor, tmp_path: Path, capsys) -> None:
    write_volume(tmp_path / "a.mrc", blobs, 2.0)
    write_volume(tmp_path / "b.mrc", -blobs, 2.0)
    fsc(tmp_path / "a.mrc", tmp_path / "b.mrc")
    assert "negative" in capsys.readouterr().out


def test_maps_that_agree_to_the_last_shell_are_said_to(blobs: torch.Tensor, tmp_path: Path, capsys) -> None:
    write_volume(tmp_path / "a.mrc", blobs, 2.0)
    fsc(tmp_path / "a.mrc", tmp_path / "a.mrc")
    assert "finest detail" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["empty", "inverted", "density", "constant"])
def test_what_is_no_mask_or_no_map_is_refused(what: str, blobs: torch.Tensor, tmp_path: Path) -> None:
    a, mask = tmp_path / "a.mrc", tmp_path / "mask.mrc"
    sphere = soft_sphere(blobs.shape[-1], 8)
    masks = {"empty": 0 * sphere, "inverted": -sphere, "density": 50 * blobs / blobs.max()}
    write_volume(a, torch.ones_like(blobs) if what == "constant" else blobs, 2.0)
    write_volume(mask, masks.get(what, sphere), 2.0)
    with pytest.raises(InputError, match="expected"):
        fsc(a, a, mask=mask)


def _resolution(said: str) -> float:
    return float(said.split("resolution ")[1].split()[0])
