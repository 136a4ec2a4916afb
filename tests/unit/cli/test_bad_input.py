"""Whatever is wrong with the input: exit code 2, one sentence with the file and the reason, and nothing left behind."""

import json
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest

from .conftest import COLUMNS, OPTICS, N, write_images, write_table


def no_stack(folder: Path, images: np.ndarray) -> None:
    (folder / "stack.mrcs").unlink()


def short_stack(folder: Path, images: np.ndarray) -> None:
    write_images(folder / "stack.mrcs", images[:-3])


def cut_stack(folder: Path, images: np.ndarray) -> None:
    stack = folder / "stack.mrcs"
    stack.write_bytes(stack.read_bytes()[:-5000])


def no_mrc(folder: Path, images: np.ndarray) -> None:
    (folder / "stack.mrcs").write_text("this is no image stack\n" * 200)


def oblong(folder: Path, images: np.ndarray) -> None:
    write_images(folder / "stack.mrcs", images[:, :, 4:])


def other_box(folder: Path, images: np.ndarray) -> None:
    write_table(folder / "particles.star", optics=[OPTICS | {"rlnImageSize": "64"}])


def no_pixel_size(folder: Path, images: np.ndarray) -> None:
    write_images(folder / "stack.mrcs", images, pixel_size=0)
    write_table(folder / "particles.star", optics=[{k: v for k, v in OPTICS.items() if k != "rlnImagePixelSize"}])


def pixel_size_zero(folder: Path, images: np.ndarray) -> None:
    write_table(folder / "particles.star", optics=[OPTICS | {"rlnImagePixelSize": "0"}])


def mixed_pixel_sizes(folder: Path, images: np.ndarray) -> None:
    other = OPTICS | {"rlnOpticsGroup": "2", "rlnImagePixelSize": "3.2"}
    write_table(folder / "particles.star", optics=[OPTICS, other])


def nan_image(folder: Path, images: np.ndarray) -> None:
    images[4, 3, 2] = np.nan
    write_images(folder / "stack.mrcs", images)


def constant_image(folder: Path, images: np.ndarray) -> None:
    images[6] = 0.5
    write_images(folder / "stack.mrcs", images)


def ctf_without_angle(folder: Path, images: np.ndarray) -> None:
    write_table(folder / "particles.star", columns=tuple(c for c in COLUMNS if c != "rlnDefocusAngle"))


def ctf_without_voltage(folder: Path, images: np.ndarray) -> None:
    write_table(folder / "particles.star", optics=[{k: v for k, v in OPTICS.items() if k != "rlnVoltage"}])


def ctf_hole(folder: Path, images: np.ndarray) -> None:
    star = folder / "particles.star"
    star.write_text(star.read_text().replace("10003 10003", "nan 10003"))


def no_rows(folder: Path, images: np.ndarray) -> None:
    write_table(folder / "particles.star", n=0)


def three_rows(folder: Path, images: np.ndarray) -> None:
    write_table(folder / "particles.star", n=3)


def not_a_star(folder: Path, images: np.ndarray) -> None:
    (folder / "particles.star").write_text("hello\n")


def empty_file(folder: Path, images: np.ndarray) -> None:
    (folder / "particles.star").write_text("")


SPOILT = {
    no_stack: ("stack.mrcs", "does not exist"),
    short_stack: ("stack.mrcs", "which holds 9"),
    cut_stack: ("stack.mrcs", "truncated"),
    no_mrc: ("stack.mrcs", "MRC mode"),
    oblong: ("stack.mrcs", "expected squares"),
    other_box: ("particles.star", "says the box is 64"),
    no_pixel_size: ("particles.star", "no pixel size"),
    pixel_size_zero: ("particles.star", "pixel size"),
    mixed_pixel_sizes: ("particles.star", "differ in pixel size"),
    nan_image: ("particle 5", "not finite"),
    constant_image: ("particle 7", "one value in every pixel"),
    ctf_without_angle: ("particles.star", "rlnDefocusAngle is missing"),
    ctf_without_voltage: ("particles.star", "rlnVoltage is missing"),
    ctf_hole: ("row 4", "rlnDefocusU"),
    no_rows: ("particles.star", "no particles"),
    three_rows: ("particles.star", "at least 4"),
    not_a_star: ("particles.star", "STAR"),
    empty_file: ("particles.star", "STAR"),
}


def refused(outcome, *parts: str) -> None:
    """Exit 2 with one sentence that holds `parts`."""
    assert outcome.code == 2, outcome.err
    assert outcome.sentence.startswith("cryoloom: ")
    assert "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    for part in parts:
        assert part in outcome.sentence, outcome.sentence


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=spoil.__name__) for spoil in SPOILT])
def test_spoilt_particles(spoil, star, images, tmp_path, cryoloom):
    spoil(tmp_path, images)
    before = sorted(tmp_path.iterdir())
    refused(cryoloom("reconstruct", star, "-o", tmp_path / "run"), *SPOILT[spoil])
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["absent.star", "notes.xyz", "noextension", "."])
def test_a_file_of_no_known_kind(name, star, tmp_path, cryoloom):
    if name not in ("absent.star", "."):
        (tmp_path / name).write_text("something")
    outcome = cryoloom("reconstruct", tmp_path / name, "-o", tmp_path / "run")
    reason = {"absent.star": "does not exist", ".": "is a folder"}.get(name, "unknown type")
    refused(outcome, str(tmp_path / name).removesuffix("/."), reason)
    assert not (tmp_path / "run").exists()


OPTIONS = {
    "--seeed 3": ("--seeed", "did you mean --seed?"),
    "--starts 1": ("--starts", "did you mean --ab-initio.starts?"),
    "--ab-initio.strats 1": ("did you mean --ab-initio.starts?",),
    "--refinement.iterations many": ("refinement.iterations", "many"),
    "--refinement.iterations": ("needs a value",),
    "--max-shift-angst -3": ("max_shift_angst", "greater than 0"),
    "--symmetry Q7": ("--symmetry", "unknown point group 'Q7'"),
    "--symmetry C0": ("--symmetry", "C0"),
    "--refine": ("--refine", "--poses known"),
    "--system cryodrgn --symmetry C3": ("--symmetry C3", "cryodrgn fits a map without symmetry", "--system loom"),
    "--system cryoai --symmetry D2": ("--symmetry D2", "cryoai"),
    "--system cryodrgn --poses known --refine": ("--refine", "cryodrgn does not polish", "cryodrgn2"),
    "--system tempor --poses known --refine": ("--refine", "tempor does not polish"),
    "--system nosuch": ("nosuch", "loom"),
    "--seed soon": ("--seed", "soon"),
    "--device tpu": ("--device", "tpu"),
    "--box 7": ("box 7", "even"),
    "--box 0": ("box 0", "even"),
    "--box 64": ("box 64", "24"),
    "--limit 0": ("--limit", "0"),
    "--limit 3": ("at least 4",),
    "--poses known": ("particles.star", "no poses"),
    "--poses nowhere.star": ("nowhere.star", "does not exist"),
    "--seeed=3": ("did you mean --seed?",),
    "--config nowhere.yaml": ("nowhere.yaml", "cannot be read"),
    "--init nowhere": ("nowhere", "does not exist"),
    "--devices 0": ("--devices",),
    "stray": ("stray",),
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_that_make_no_sense(options, star, tmp_path, cryoloom):
    refused(cryoloom("reconstruct", star, "-o", tmp_path / "run", *options.split()), *OPTIONS[options])
    assert not (tmp_path / "run").exists()


def test_the_output_must_be_named(star, cryoloom):
    refused(cryoloom("reconstruct", star), "--output")


@pytest.mark.parametrize(
    "text", ["refinement: [", "- a\n- b", "refinement:\n  iterations: -1", "no_such_setting: 3", "settings: 3"]
)
def test_a_bad_settings_file(text, star, tmp_path, cryoloom):
    (tmp_path / "mine.yaml").write_text(text)
    outcome = cryoloom("reconstruct", star, "-o", tmp_path / "run", "--config", tmp_path / "mine.yaml")
    refused(outcome, "mine.yaml")
    assert not (tmp_path / "run").exists()


def test_poses_for_other_particles(star, tmp_path, cryoloom):
    angles = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
    write_table(tmp_path / "poses.star", n=N - 2, columns=(*COLUMNS, *angles))
    outcome = cryoloom("reconstruct", star, "-o", tmp_path / "run", "--poses", tmp_path / "poses.star")
    refused(outcome, "poses.star has no pose for 2 of 12 particles", "particle 11")
    assert not (tmp_path / "run").exists()


def test_an_output_that_is_not_empty(star, tmp_path, cryoloom):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    refused(cryoloom("reconstruct", star, "-o", tmp_path / "run"), "run is not empty")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_an_output_that_is_a_file(star, tmp_path, cryoloom):
    (tmp_path / "run").write_text("mine")
    refused(cryoloom("reconstruct", star, "-o", tmp_path / "run"), "run is a file")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.fixture
def begun(star, tmp_path) -> Path:
    """A run that was begun on the particles and stopped before its first checkpoint."""
    from cryoloom.data import read_particles
    from cryoloom.solve.run import Run, RunConfig

    fingerprint = read_particles(star, require_images=True).fingerprint()
    return Run.create(tmp_path / "run", RunConfig(particles=star, fingerprint=fingerprint)).path


def test_a_run_in_use(begun, star, cryoloom):
    parent = psutil.Process().parent()
    holder = {"pid": parent.pid, "host": socket.gethostname(), "started": parent.create_time()}
    (begun / "lock.json").write_text(json.dumps(holder))
    for command in (["reconstruct", star, "-o", begun], ["resume", begun]):
        refused(cryoloom(*command), str(begun), "in use by a live run", str(parent.pid))
    assert not (begun / "metrics.jsonl").exists()


def test_a_run_that_lies_there_already(begun, star, cryoloom):
    refused(cryoloom("reconstruct", star, "-o", begun), "holds a run already", "cryoloom resume")


def test_resume_needs_a_run(star, tmp_path, cryoloom):
    refused(cryoloom("resume", tmp_path), str(tmp_path), "is no run")
    refused(cryoloom("resume", star), "particles.star", "is no run")


def test_resume_needs_the_same_particles(begun, star, cryoloom):
    star.write_text(star.read_text().replace("10003", "12003"))
    refused(cryoloom("resume", begun), "particles.star", "changed since")


def test_resume_with_a_broken_config(begun, cryoloom):
    (begun / "config.yaml").write_text("particles: [")
    refused(cryoloom("resume", begun), "config.yaml", "cannot be read")


def test_resume_with_settings_of_another_version(begun, cryoloom):
    config = begun / "config.yaml"
    config.write_text(config.read_text().replace("settings: {}", "settings: {no_such_setting: 1}"))
    refused(cryoloom("resume", begun), "config.yaml", "no_such_setting")
