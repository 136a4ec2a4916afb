"""Movies from the shell: simulated, read frame by frame and whole, warm starts, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.evaluate.latents import conformation_correlation
from cryoloom.evaluate.movies import MovieTruth
from cryoloom.physics.so3 import angular_distance
from cryoloom.solve.decode import Decoder
from cryoloom.solve.run import Run

from .conftest import cryoloom, particles_of, poses_of

SMALL = ("--device", "cpu", "--z-dim", 1, "--network.width", 48, "--network.blocks", 1, "--encoder.width", 8)
# Few images in few steps: with the full price of a nat, z would not be used yet.
QUICK = (
    "--beta",
    0.05,
    "--train.batch-size",
    12,
    "--train.learning-rate",
    3e-3,
    "--train.first-band",
    8,
    "--train.last-band",
    8,
)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 movies of 6 frames in which half of the phantom turns at constant speed."""
    folder = tmp_path_factory.mktemp("movies") / "data"
    grid = ("--box", 24, "--pixel-size", 5.2, "--shift", 0, "--snr", 2)
    movies = ("--movies", 40, "--frames", 6)
    cryoloom("simulate", "phantom", "--turn", 81, *grid, *movies, "-o", folder)
    return folder


def trained(system: str, filmed: Path, run: Path, *options: object, code: int = 0) -> str:
    common = ("reconstruct", filmed / "particles.star", "--system", system, *SMALL, *QUICK)
    return cryoloom(*common, *options, "-o", run, code=code)


@pytest.fixture(scope="module")
def alone(filmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cryodrgn on the same frames."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    known = ("--poses", filmed / "truth" / "particles.star")
    trained("cryodrgn", filmed, run, *known, "--train.passes", 12, "--settle-rounds", 0)
    return run


def rank(run: Path, filmed: Path) -> float:
    """How well the latents of a run order the frames by their true angle."""
    decoder = Decoder.of_run(run)
    return conformation_correlation(decoder.z.numpy(), MovieTruth.of(decoder, filmed / "truth").coordinate.numpy())


def test_movies_are_learned_from_the_frames_read_alone(filmed: Path, alone: Path, tmp_path: Path):
    run = tmp_path / "run"
    trained("tempor", filmed, run, "--init", alone, "--train.passes", 12)
    assert rank(run, filmed) > max(0.6, rank(alone, filmed))
    losses = [line["loss"] for line in Run.open(run).metrics() if "loss" in line]
    assert len(losses) == 12
    written = particles_of(run)
    assert len(written.movies()) == 40
    assert np.array_equal(written.column("frame"), particles_of(filmed).column("frame"))
    maps = list(Decoder.of_run(run).movie("movie_07"))
    assert len(maps) == 6
    assert all(float((volume**3).mean()) > 0 for volume in maps)


def test_it_begins_where_the_frames_read_alone_end(filmed: Path, alone: Path, tmp_path: Path):
    still = ("--train.learning-rate", 1e-9, "--encoder-rate", 1e-9)
    common = ("reconstruct", filmed / "particles.star", "--system", "tempor", *SMALL, "--train.passes", 1)
    cryoloom(*common, "--init", alone, "--train.first-band", 8, "--train.last-band", 8, *still, "-o", tmp_path / "run")
    # What the encoder sees is weighted by the noise that a pass left, which is not quite the same for both.
    assert torch.allclose(Decoder.of_run(tmp_path / "run").z, Decoder.of_run(alone).z, atol=0.1)


def test_from_nothing_with_the_prior_of_the_paper(filmed: Path, tmp_path: Path):
    known = ("--poses", filmed / "truth" / "particles.star", "--dynamics.prior", "normal", "--train.passes", 2)
    trained("tempor", filmed, tmp_path / "run", *known)
    assert np.load(tmp_path / "run" / "latents.npz")["z_mean"].shape == (240, 1)


def test_poses_are_read_off_the_frames_where_a_run_that_reads_them_is_taken_over(filmed, alone, tmp_path):
    learnt = ("--pose-passes", 2, "--train.passes", 3)
    trained("hetem", filmed, tmp_path / "hetem", *learnt)
    on = ("--init", tmp_path / "hetem", "--read-poses", "--train.passes", 2)
    trained("tempor", filmed, tmp_path / "run", *on, "--encoder-rate", 1e-5)
    before, after = (poses_of(tmp_path / name).best_rotation for name in ("hetem", "run"))
    moved = angular_distance(before, after)
    # The network is the same and has learnt on, in small steps: what it says has moved by little.
    assert 0.01 < float(moved.median()) < 10
    stages = list(dict.fromkeys(line["stage"] for line in Run.open(tmp_path / "run").metrics()))
    assert stages == ["train", "poses", "images", "results"]
    assert "rotation_sigma_deg" not in particles_of(tmp_path / "run").table
    trained("tempor", filmed, tmp_path / "drawn", *on, "--pose-kl", 1)
    drawn = particles_of(tmp_path / "drawn")
    sigma, shift = (drawn.table[name].to_numpy(float) for name in ("rotation_sigma_deg", "shift_sigma_angst"))
    assert ((sigma > 0.1) & (sigma < 100)).all()
    assert sigma.std() > 0
    assert (shift > 0).all()
    said = trained("tempor", filmed, tmp_path / "other", "--init", alone, "--read-poses", code=2)
    assert "holds no poses network" in said


def test_what_it_cannot_use_is_refused_in_a_sentence(filmed, alone, phantom_set, tmp_path):
    known = ("--poses", filmed / "truth" / "particles.star")
    assert "tempor needs poses" in trained("tempor", filmed, tmp_path / "a", code=2)
    twice = (filmed / "particles.star").read_text().replace("movie_02", "movie_01")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "particles.star").write_text(twice.replace("particles.mrcs", str(filmed / "particles.mrcs")))
    assert "movie movie_01 has frame 0 twice" in trained("tempor", tmp_path / "data", tmp_path / "b", *known, code=2)
    still = ("--poses", phantom_set / "truth" / "particles.star")
    assert "which particles form a movie" in trained("tempor", phantom_set, tmp_path / "c", *still, code=2)
    said = trained("tempor", filmed, tmp_path / "d", "--init", alone, "--network.width", 16, code=2)
    assert "has other settings or another box" in said
