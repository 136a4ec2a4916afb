import json

import pytest
import torch

from cryoloom.data import read_particles, write_stack, write_star, write_volume
from cryoloom.errors import InputError
from cryoloom.evaluate import truth as truth_module
from cryoloom.evaluate.truth import evaluate_run, match_particles
from cryoloom.physics.pose import Pose
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import random_rotations

PIXEL = 2.0


@pytest.fixture
def folders(tmp_path, blob_map, monkeypatch):
    """A truth, and a run that found it up to the hand, a rotation and a translation, with its particles shuffled."""
    generator = torch.Generator().manual_seed(0)
    n, box = 300, blob_map.shape[-1]
    write_stack(tmp_path / "particles.mrcs", [torch.randn(n, box, box, generator=generator)], n, box, PIXEL)
    pose = Pose.single(random_rotations(n, generator), torch.randn(n, 2, generator=generator))
    bare = read_particles(tmp_path / "particles.mrcs")
    write_star(tmp_path / "truth" / "particles.star", bare.with_poses(pose))
    write_volume(tmp_path / "truth" / "volume.mrc", blob_map, PIXEL)

    turn, u = random_rotations(1, generator)[0], torch.tensor([2.0, -4.0, 3.0])
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    # The run's map W, its mirror image turned by `turn` and moved by u gives the truth: W(v) = V(turn M v + u).
    found = apply_to_volume(apply_to_volume(blob_map, torch.eye(3), translation=-u / PIXEL), turn.T)
    found = apply_to_volume(found, torch.eye(3), flip=True)
    rotation = mirror @ pose.best_rotation @ turn @ mirror
    shift = pose.best_shift + pose.best_rotation[:, :2] @ u
    order = torch.randperm(n, generator=generator)[:250]
    estimate = bare.with_poses(Pose.single(rotation, shift)).subset(order)
    write_star(tmp_path / "run" / "particles.star", estimate)
    write_volume(tmp_path / "run" / "volumes" / "volume.mrc", found, PIXEL)

    def oracle(particles, poses, true_volume, pixel_size, symmetry):
        torch.testing.assert_close(poses.best_rotation, pose.best_rotation[order], atol=1e-4, rtol=0)
        return truth_module.fsc(true_volume, true_volume, pixel_size)

    monkeypatch.setattr(truth_module, "_oracle_curve", oracle)
    return tmp_path / "run", tmp_path / "truth"


def test_a_perfect_run_is_found_perfect(folders):
    run, truth = folders
    result = evaluate_run(run, truth)
    assert result == json.loads((run / "evaluation.json").read_text())
    assert result["hand_flipped"] is True
    assert result["rotation_error_median"] < 1e-4
    assert result["shift_error_px_median"] < 0.01
    assert result["resolution_fsc50_angst"] < 5.5
    assert result["resolution_over_oracle"] == pytest.approx(
        result["resolution_fsc50_angst"] / result["oracle_fsc50_angst"]
    )
    assert result["fsc50_px"] == pytest.approx(result["resolution_fsc50_angst"] / PIXEL)
    assert (run / "fsc_truth.csv").is_file()
    assert (run / "volumes" / "aligned_to_truth.mrc").is_file()


def test_conformations_stand_for_their_mean(folders, blob_map):
    run, truth = folders
    (truth / "volume.mrc").unlink()
    for i, sign in enumerate((1, -1)):
        write_volume(truth / "conformations" / f"{i}.mrc", blob_map + sign * torch.rand(1), PIXEL)
    assert evaluate_run(run, truth)["resolution_fsc50_angst"] < 5.5


def test_particles_of_another_data_set_are_refused(folders):
    run, truth = folders
    estimated, true = read_particles(run / "particles.star"), read_particles(truth / "particles.star")
    with pytest.raises(InputError, match="not in"):
        match_particles(true, estimated)
    assert len(match_particles(estimated, true)) == 250


def test_an_unfinished_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"particles\.star"):
        evaluate_run(tmp_path, tmp_path)
