"""Every command that writes leaves what lies there."""

from pathlib import Path

import pytest

from cryoloom.cli.main import run
from cryoloom.solve.run import Run
from cryoloom.solve.session import Session
from cryoloom.solve.team import Team

from .test_bad_input import refused

SIMULATE = ("simulate", "phantom", "--box", 16, "--pixel-size", 12, "--particles", 20, "--snr", 5, "--shift", 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at known poses, and its particles in data/."""
    folder = tmp_path_factory.mktemp("finished")
    known = ("reconstruct", folder / "data/truth/particles.star", "--poses", "known", "-o", folder / "run")
    for command in ((*SIMULATE, "-o", folder / "data"), known):
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in command])
        assert ended.value.code == 0
    return folder


def unchanged(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_simulate_and_its_particles(tmp_path: Path, cryoloom) -> None:
    assert cryoloom(*SIMULATE, "-o", tmp_path).code == 0
    assert cryoloom(*SIMULATE, "-o", tmp_path).code == 0
    before = unchanged(tmp_path)
    refused(cryoloom(*SIMULATE, "--seed", 4, "-o", tmp_path), "particles.star exists")
    assert unchanged(tmp_path) == before
    assert cryoloom(*SIMULATE, "--seed", 4, "-o", tmp_path, "--overwrite").code == 0


@pytest.mark.parametrize("name", ["particles.mrcs", "particles.star", "truth/volume.mrc"])
def test_simulate_over_files_of_the_user(tmp_path: Path, cryoloom, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    refused(cryoloom(*SIMULATE, "-o", tmp_path), Path(name).name + " exists")
    assert (tmp_path / name).read_text() == "mine"


def test_export(tmp_path: Path, finished: Path, cryoloom) -> None:
    before = unchanged(finished)
    to_relion = ("export", finished / "run", "--to", "relion", "-o")
    refused(cryoloom(*to_relion, finished / "data/truth"), "particles.star exists")
    refused(cryoloom(*to_relion, finished / "run", "--overwrite"), "are read")
    assert unchanged(finished) == before
    for _ in range(2):
        assert cryoloom("export", finished / "run", "--to", "cryodrgn", "-o", tmp_path / "out").code == 0
    (tmp_path / "out/pose.pkl").write_bytes(b"mine")
    refused(cryoloom("export", finished / "run", "--to", "cryodrgn", "-o", tmp_path / "out"), "pose.pkl exists")


def test_select(tmp_path: Path, finished: Path, cryoloom) -> None:
    source = finished / "data/truth/particles.star"
    before = unchanged(finished)
    asked = ("select", finished / "run", "--where", "max_posterior > -1", "-o")
    refused(cryoloom(*asked, source, "--overwrite"), "are read")
    refused(cryoloom(*asked, finished / "run/particles.star", "--overwrite"), "are read")
    assert unchanged(finished) == before
    (tmp_path / "mine.star").write_text("mine")
    refused(cryoloom(*asked, tmp_path / "mine.star"), "mine.star exists")
    assert (tmp_path / "mine.star").read_text() == "mine"
    assert cryoloom(*asked, tmp_path / "mine.star", "--overwrite").code == 0


def test_fsc(finished: Path, cryoloom) -> None:
    half = finished / "run/volumes/half_1.mrc"
    before = unchanged(finished)
    refused(cryoloom("fsc", half, finished / "run/volumes/half_2.mrc", "--output", half, "--overwrite"), "are read")
    assert unchanged(finished) == before


def test_a_finished_run_that_is_opened_stays_as_it_is(finished: Path) -> None:
    before = unchanged(finished)
    Session(Run.open(finished / "run"), Team(), lambda *_: None)
    assert unchanged(finished) == before
