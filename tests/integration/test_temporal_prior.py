"""Loom's poses along movies from the shell: frames beside each other find lost ones and draw the rest nearer."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import write_star
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec, random_rotations
from cryoloom.solve.run import Run

from .conftest import cryoloom, particles_of, poses_of

GRID = ("--box", 16, "--pixel-size", 7.2, "--shift", 0, "--seed", 0, "--movies", 40, "--frames", 8)


def _simulated(folder: Path, *options: object) -> Path:
    """Movies of the phantom, and in start.star its poses: a fifth of them anything, the rest turned by about 12°."""
    cryoloom("simulate", "phantom", *GRID, *options, "-o", folder)
    truth, generator = particles_of(folder / "truth"), torch.Generator().manual_seed(0)
    poses = truth.poses()
    turn = matrix_from_rotvec(0.12 * torch.randn(len(truth), 3, generator=generator))
    rotation = turn @ poses.best_rotation.float()
    lost = torch.rand(len(truth), generator=generator) < 0.2
    rotation[lost] = random_rotations(int(lost.sum()), generator)
    write_star(folder / "start.star", truth, pose=Pose.single(rotation, poses.best_shift.float()))
    return folder


@pytest.fixture(scope="module")
def tumbling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _simulated(tmp_path_factory.mktemp("tumbling") / "data", "--tumbling", 6, "--snr", 0.3)


def _errors(run: Path, data: Path) -> torch.Tensor:
    return angular_distance(poses_of(run).best_rotation, poses_of(data / "truth").best_rotation)


def _refined(data: Path, run: Path, *options: object) -> Path:
    given = ("--poses", data / "start.star", "--refine", "--device", "cpu", "--seed", 0)
    cryoloom("reconstruct", data / "particles.star", "-o", run, *given, *options)
    return run


def test_frames_beside_each_other_find_what_one_alone_loses(tumbling: Path, tmp_path: Path):
    alone = _errors(_refined(tumbling, tmp_path / "alone"), tumbling)
    run = _refined(tumbling, tmp_path / "together", "--temporal-prior")
    together = _errors(run, tumbling)
    assert float((together > 30).float().mean()) < 0.3 * float((alone > 30).float().mean())
    assert float(together.median()) < 0.8 * float(alone.median())
    told = [line for line in Run.open(run).metrics() if line["stage"] == "movies"]
    assert told[-1]["used"]
    assert told[-1]["tumbling_deg"] == pytest.approx(6, rel=0.5)


def test_poses_stay_where_molecules_turn_too_far_between_frames(tmp_path: Path):
    data = _simulated(tmp_path / "data", "--snr", 1)
    alone, together = (_refined(data, tmp_path / str(i), *o) for i, o in enumerate(((), ("--temporal-prior",))))
    assert torch.equal(poses_of(alone).best_rotation, poses_of(together).best_rotation)
    assert not any(line["used"] for line in Run.open(together).metrics() if line["stage"] == "movies")


def test_particles_without_movies_are_refused_in_a_sentence(phantom_set: Path, tmp_path: Path):
    given = ("reconstruct", phantom_set / "particles.star", "-o", tmp_path / "run", "--temporal-prior")
    assert "does not say which particles form a movie" in cryoloom(*given, code=2)
