"""loom from the shell: each way of starting it beats what it started from."""

import json
from pathlib import Path

import torch

from cryoloom.data import write_star
from cryoloom.evaluate.pose_error import pose_errors
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec

from .conftest import QUICK, correlation, cryoloom, particles_of, poses_of, volume_of


def test_from_nothing_to_poses_and_a_map(phantom_set: Path, finished: Path):
    cryoloom("evaluate", finished, "--truth", phantom_set / "truth")
    found = json.loads((finished / "evaluation.json").read_text())
    # Random orientations are wrong by 6.0 in the median.
    assert found["rotation_error_median"] < 0.05
    assert found["resolution_over_oracle"] < 1.2
    table = particles_of(finished).table
    assert (table["rotation_sigma_deg"] > 0).all()
    assert table["max_posterior"].between(0, 1).all()
    assert set(table["half_set"]) == {1, 2}
    for name in ("volume", "half_1", "half_2"):
        assert torch.isfinite(volume_of(finished)).all(), name
    assert (finished / "report.html").stat().st_size > 1_000_000


def test_known_poses_skip_the_search(phantom_set: Path, tmp_path: Path):
    truth = phantom_set / "truth"
    cryoloom("reconstruct", phantom_set / "particles.star", "--poses", truth / "particles.star", "-o", tmp_path / "run")
    cryoloom("evaluate", tmp_path / "run", "--truth", truth)
    found = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert found["rotation_error_deg_median"] < 0.1
    assert abs(found["resolution_over_oracle"] - 1) < 0.1
    stages = [json.loads(line)["stage"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert stages == ["results"]


def test_refinement_halves_the_error_of_disturbed_poses(phantom_set: Path, tmp_path: Path):
    true, particles = poses_of(phantom_set / "truth"), particles_of(phantom_set)
    generator = torch.Generator().manual_seed(0)
    turn = matrix_from_rotvec(torch.deg2rad(5 * torch.randn(len(particles), 3, generator=generator)))
    shift = true.best_shift + 3.2 * torch.randn(len(particles), 2, generator=generator)
    disturbed = Pose.single(turn @ true.best_rotation, shift)
    write_star(phantom_set / "disturbed.star", particles, pose=disturbed)
    run = tmp_path / "run"
    cryoloom("reconstruct", phantom_set / "disturbed.star", "--poses", "known", "--refine", "-o", run)
    before = angular_distance(disturbed.best_rotation, true.best_rotation).median()
    assert pose_errors(poses_of(run), true, 3.2).rotation_error_deg_median < before / 2


def test_two_processes_give_the_map_of_one(phantom_set: Path, finished: Path, tmp_path: Path):
    run = tmp_path / "shared"
    cryoloom("reconstruct", phantom_set / "particles.star", "-o", run, *QUICK, "--devices", 2)
    assert correlation(volume_of(run), volume_of(finished)) >= 0.9999


def test_processes_refuse_together_with_one_sentence(phantom_set: Path, finished: Path):
    said = cryoloom("reconstruct", phantom_set / "particles.star", "-o", finished, "--devices", 2, code=2)
    assert said.count("holds a run already") == 1
    assert "Traceback" not in said
