"""loom from the shell: each way of starting it beats what it started from."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from cryoloom.data import write_star
from cryoloom.evaluate.pose_error import pose_errors
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import matrix_from_rotvec, random_rotations
from cryoloom.solve.run import Run

from .conftest import PIXEL_SIZE, QUICK, correlation, cryoloom, elsewhere, particles_of, poses_of, volume_of


def evaluated(run: Path, truth: Path) -> dict:
    cryoloom("evaluate", run, "--truth", truth)
    return json.loads((run / "evaluation.json").read_text())


def test_from_nothing_to_poses_and_a_map(phantom_set: Path, finished: Path, tmp_path: Path):
    found = evaluated(finished, phantom_set / "truth")
    assert found["rotation_error_deg_median"] < 15
    assert found["shift_error_px_median"] < 0.5
    assert found["resolution_over_oracle"] < 1.25
    # The same images at random orientations.
    particles = particles_of(phantom_set)
    rotation = random_rotations(len(particles), torch.Generator().manual_seed(1))
    write_star(tmp_path / "random.star", particles, pose=Pose.single(rotation))
    run = tmp_path / "random"
    cryoloom("reconstruct", phantom_set / "particles.star", "--poses", tmp_path / "random.star", "-o", run)
    chance = evaluated(run, phantom_set / "truth")
    assert chance["rotation_error_deg_median"] > 40
    assert chance["resolution_over_oracle"] > 1.8 * found["resolution_over_oracle"]


def test_a_run_leaves_what_is_promised(finished: Path):
    table = particles_of(finished).table
    assert set(table["half_set"]) == {1, 2}
    assert table["max_posterior"].between(0, 1).all()
    for name in ("rotation_sigma_deg", "shift_sigma_angst"):
        assert (table[name] > 0).all()
    curve = pd.read_csv(finished / "fsc.csv")
    assert {"shell", "resolution_angst", "fsc"} <= set(curve.columns)
    assert curve["fsc"][1] > 0.9
    for name in ("volume", "half_1", "half_2", "sharpened", "mask"):
        volume = volume_of(finished, name)
        assert volume.shape == (24, 24, 24)
        assert torch.isfinite(volume).all()
        assert float(volume.std()) > 0
    lines = Run.open(finished).metrics()
    one = [("ab initio", n + 1) for n in range(30)] + [("march", n + 1) for n in range(4)]
    searches = [(half, *step) for half in (1, 2) for step in one]
    assert [(line["half"], line["stage"], line["iteration"]) for line in lines if "half" in line] == searches
    compared, *others = lines[len(searches) :]
    assert [line["stage"] for line in others] == ["refine"] * 3 + ["images", "results"]
    # Few particles: both maps are made from all of them, and agree.
    assert (compared["stage"], compared["starts"], compared["independent"]) == ("half-sets compared", 1, False)
    assert compared["confirmed"] == (compared["agreement"] > 0.5)
    assert compared["agreement"] > 0.5
    assert isinstance(json.loads((finished / "alarms.json").read_text()), list)
    assert (finished / "report.html").stat().st_size > 1_000_000
    assert not (finished / "lock.json").exists()
    assert not list(finished.rglob(".*"))


def test_the_surer_half_of_the_particles_is_nearer_to_the_truth(phantom_set: Path, finished: Path):
    error = pose_errors(poses_of(finished), poses_of(phantom_set / "truth"), PIXEL_SIZE).alignment.angle_deg
    sigma = torch.tensor(particles_of(finished).table["rotation_sigma_deg"].to_numpy())
    surer = sigma < sigma.median()
    assert float(error[surer].median()) < float(error[~surer].median())


def test_known_poses_skip_the_search(phantom_set: Path, tmp_path: Path):
    truth, run = phantom_set / "truth", tmp_path / "run"
    cryoloom("reconstruct", phantom_set / "particles.star", "--poses", truth / "particles.star", "-o", run)
    found = evaluated(run, truth)
    assert abs(found["resolution_over_oracle"] - 1) < 0.1
    assert torch.allclose(poses_of(run).rotation, poses_of(truth).rotation, atol=1e-5)
    assert torch.allclose(poses_of(run).shift, poses_of(truth).shift, atol=1e-3)
    assert [line["stage"] for line in Run.open(run).metrics()] == ["images", "results"]


@pytest.fixture(scope="module")
def disturbed(phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true poses turned by N(0, 5°) about each axis and moved by N(0, 1 px) in x and y."""
    true, particles = poses_of(phantom_set / "truth"), particles_of(phantom_set)
    generator = torch.Generator().manual_seed(0)
    turn = matrix_from_rotvec(torch.deg2rad(5 * torch.randn(len(particles), 3, generator=generator)))
    shift = true.best_shift + PIXEL_SIZE * torch.randn(len(particles), 2, generator=generator)
    folder = tmp_path_factory.mktemp("disturbed")
    write_star(folder / "particles.star", particles, pose=Pose.single(turn @ true.best_rotation, shift))
    return folder


def test_refinement_halves_the_error_of_disturbed_poses(phantom_set: Path, disturbed: Path, tmp_path: Path):
    true, run = poses_of(phantom_set / "truth"), tmp_path / "run"
    cryoloom("reconstruct", disturbed / "particles.star", "--poses", "known", "--refine", "-o", run)
    before, after = (pose_errors(poses_of(folder), true, PIXEL_SIZE) for folder in (disturbed, run))
    assert after.rotation_error_deg_median < before.rotation_error_deg_median / 2
    assert after.shift_error_px_median < before.shift_error_px_median / 2


def test_a_run_starts_where_another_ended(phantom_set: Path, finished: Path, tmp_path: Path):
    run = tmp_path / "run"
    cryoloom("reconstruct", phantom_set / "particles.star", "--init", finished, "-o", run)
    assert torch.allclose(poses_of(run).rotation, poses_of(finished).rotation, atol=1e-5)
    assert correlation(volume_of(run), volume_of(finished)) > 0.95


def test_two_processes_give_the_map_of_one(phantom_set: Path, tmp_path: Path):
    few = ("--ab-initio.iterations", 8, "--ab-initio.temper-iterations", 4, "--march.iterations", 2)
    few = (*few, "--refinement.iterations", 1)
    maps = []
    for n in (1, 2):
        arguments = ("reconstruct", phantom_set / "particles.star", "-o", tmp_path / str(n), *QUICK, *few)
        done = elsewhere(*arguments, "--devices", n)
        assert done.returncode == 0, done.stderr
        maps.append(volume_of(tmp_path / str(n)))
    assert correlation(*maps) >= 0.9999


def test_processes_refuse_together_with_one_sentence(phantom_set: Path, finished: Path):
    done = elsewhere("reconstruct", phantom_set / "particles.star", "-o", finished, "--device", "cpu", "--devices", 2)
    assert done.returncode == 2
    assert done.stderr.count("holds a run already") == 1
    assert "Traceback" not in done.stderr
    assert "fault of ours" not in done.stderr
