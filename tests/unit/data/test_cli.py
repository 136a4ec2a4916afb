"""`cryoloom info` and `cryoloom export`."""

from pathlib import Path

import pytest
import torch

from cryoloom.cli.export import export
from cryoloom.cli.info import info
from cryoloom.data import read_particles, write_volume
from cryoloom.errors import InputError


def test_info_tells_what_is_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info(project / "job" / "particles.star")
    text = capsys.readouterr().out
    for part in ("12", "16 px", "2.5 Å", "300 kV", "all found", "6 and 6", "contrast"):
        assert part in text


def test_info_without_images_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "mics").rename(project / "moved")
    info(project / "job" / "particles.star")
    assert "some missing" in capsys.readouterr().out
    info(project / "job" / "particles.star", datadir=project / "moved")
    assert "all found" in capsys.readouterr().out


@pytest.mark.parametrize("world", ["relion", "cryosparc", "cryodrgn"])
def test_export_can_be_read_again(project: Path, world: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = read_particles(project / "job" / "particles.star")
    (project / "job" / "volumes").mkdir()
    for name in ("volume", "half_1", "half_2"):
        write_volume(project / "job" / "volumes" / f"{name}.mrc", torch.randn(8, 8, 8), 2.0)
    export(project / "job", to=world, output=project / "out")
    again = read_particles(project / "out" / ("particles.cs" if world == "cryosparc" else "particles.star"))
    assert torch.equal(source.images(), again.images())
    torch.testing.assert_close(source.poses().shift, again.poses().shift)
    assert len(list((project / "out").glob("*.mrc"))) == 3
    if world == "cryodrgn":
        stripped = read_particles(project / "out" / "particles.star", poses=project / "out" / "pose.pkl")
        torch.testing.assert_close(source.poses().rotation, stripped.poses().rotation, atol=1e-6, rtol=0)
    assert "particles" in capsys.readouterr().out


def test_export_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no particles\.star"):
        export(tmp_path, to="relion", output=tmp_path / "out")
