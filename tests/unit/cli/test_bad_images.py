"""Images that cannot be used: named when they are met, left out where asked, and the same ones when a run goes on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryoloom.data import checks as checks_module
from cryoloom.data import read_particles, read_volume
from cryoloom.report.html import write_report
from cryoloom.solve.run import Run

from .conftest import BOX, COLUMNS, write_images, write_table

MANY, BAD = 60, [7, 23, 41]
REFINE = ("--poses", "known", "--refine", "--refinement.iterations", 3, "--refinement.still-degrees", 1e-6)


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """A particle file with random poses, three images that cannot be used and two with a hot pixel."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(MANY, BOX, BOX))
    images[BAD[0]], images[BAD[1], 4, 4], images[BAD[2]] = 0, np.nan, 3
    images[10, 5, 5], images[11, 2, 20] = 1000, -1000
    write_images(tmp_path / "stack.mrcs", images)
    star = write_table(
        tmp_path / "particles.star", n=MANY, columns=(*COLUMNS, "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
    )
    lines = star.read_text().splitlines()
    for i, line in enumerate(lines):
        if "@stack" in line:
            lines[i] = " ".join([*line.split()[:-3], *(f"{angle:.2f}" for angle in rng.uniform(0, (360, 180, 360)))])
    star.write_text("\n".join([*lines, ""]))
    return star


@pytest.fixture
def unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at a sample of the images misses the broken ones."""
    sample = np.setdiff1d(np.arange(MANY), BAD)[:20]
    monkeypatch.setattr(checks_module, "sample_rows", lambda particles, n: sample)


def test_an_image_that_no_sample_saw_ends_the_run_with_its_name(spoilt, unsampled, tmp_path, cryoloom):
    outcome = cryoloom("reconstruct", spoilt, "-o", tmp_path / "run", "--device", "cpu", *REFINE)
    assert outcome.code == 2
    assert "image 8 of" in outcome.sentence
    assert "one value in every pixel" in outcome.sentence
    assert "--skip-bad-images" in outcome.sentence
    assert not (tmp_path / "run").exists()


def test_bad_images_are_left_out_where_asked(spoilt, unsampled, tmp_path, cryoloom):
    run = tmp_path / "run"
    outcome = cryoloom("reconstruct", spoilt, "-o", run, "--device", "cpu", "--skip-bad-images", "--poses", "known")
    assert outcome.code == 0, outcome.err
    assert "3 of 60 images cannot be used and are left out" in outcome.out
    assert "particle 24: image 24 of" in outcome.out
    assert "outlier pixels replaced in 2 of 57 images" in outcome.out
    skipped = pd.read_csv(run / "skipped.csv")
    assert skipped["particle"].tolist() == [i + 1 for i in BAD]
    assert "not finite" in skipped["reason"][1]
    kept = read_particles(run / "particles.star")
    assert kept.column("image_index").tolist() == np.setdiff1d(np.arange(MANY), BAD).tolist()
    facts = next(line for line in Run.open(run).metrics() if line["stage"] == "images")
    assert (facts["particles"], facts["outlier_images"], facts["outlier_pixels"]) == (57, 2, 2)
    page = write_report(run).read_text()
    assert "Outlier pixels (hot or dead) replaced in 2 of 57 images, 2 in all." in page
    assert "3 images cannot be used and were left out" in page
    selected = tmp_path / "selected.star"
    assert cryoloom("select", run, "--where", "rotation_sigma_deg >= 0", "-o", selected).code == 0
    assert len(read_particles(selected)) == 57
    assert cryoloom("info", selected).code == 0


def test_the_same_images_are_left_out_when_a_run_goes_on(spoilt, tmp_path, cryoloom, monkeypatch):
    command = ("reconstruct", spoilt, "--device", "cpu", "--skip-bad-images", *REFINE)
    assert cryoloom(*command, "-o", tmp_path / "whole").code == 0
    save, run = Run.save_checkpoint, tmp_path / "run"

    def stop(self: Run, step: int, state: dict) -> None:
        save(self, step, state)
        if step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_checkpoint", stop)
        assert cryoloom(*command, "-o", run).code == 130
    assert cryoloom("resume", run).code == 0
    for name in ("volume", "half_1", "half_2"):
        maps = [read_volume(folder / "volumes" / f"{name}.mrc")[0] for folder in (run, tmp_path / "whole")]
        assert torch.equal(*maps)
    lines = [
        [{k: v for k, v in line.items() if k not in ("seconds", "memory_gb")} for line in Run.open(folder).metrics()]
        for folder in (run, tmp_path / "whole")
    ]
    assert lines[0] == lines[1]
    assert (run / "skipped.csv").read_text() == (tmp_path / "whole" / "skipped.csv").read_text()


def test_a_run_without_its_list_is_not_resumed(spoilt, tmp_path, cryoloom, monkeypatch):
    def stop(self: Run, step: int, state: dict) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_checkpoint", stop)
        outcome = cryoloom("reconstruct", spoilt, "-o", run, "--device", "cpu", "--skip-bad-images", *REFINE)
    assert outcome.code == 130
    (run / "skipped.csv").rename(run / "gone.csv")
    outcome = cryoloom("resume", run)
    assert outcome.code == 2
    assert "skipped.csv cannot be read" in outcome.sentence


def test_none_is_left_out_of_sound_images(star, tmp_path, cryoloom):
    write_table(star, columns=(*COLUMNS, "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"))
    options = ("--skip-bad-images", "--poses", "known", "--device", "cpu")
    outcome = cryoloom("reconstruct", star, "-o", tmp_path / "run", *options)
    assert outcome.code == 0, outcome.err
    assert "all 12 images can be used" in outcome.out
    assert len(pd.read_csv(tmp_path / "run" / "skipped.csv")) == 0
    assert "replaced in none of 12 images" in write_report(tmp_path / "run").read_text()


def test_too_few_images_that_can_be_used(star, images, tmp_path, cryoloom):
    images[3:] = 0
    write_images(tmp_path / "stack.mrcs", images)
    outcome = cryoloom("reconstruct", star, "-o", tmp_path / "run", "--skip-bad-images")
    assert outcome.code == 2
    assert "at least 4" in outcome.sentence
    assert not (tmp_path / "run").exists()


def test_info_reads_a_sample_or_all_images(spoilt, unsampled, cryoloom, monkeypatch):
    assert "cannot be used" not in cryoloom("info", spoilt).out
    monkeypatch.undo()
    outcome = " ".join(cryoloom("info", spoilt, "--all-images").out.replace("│", " ").split())
    assert "3 of 60 images cannot be used, the first" in outcome
    assert "in 2 of 60 images, 2 in all" in outcome
