import pytest
import torch

from cryoloom.evaluate.pose_error import pose_errors
from cryoloom.physics.pose import Pose
from cryoloom.physics.rigid import mirror_rotation
from cryoloom.physics.so3 import random_rotations


@pytest.fixture
def truth() -> Pose:
    generator = torch.Generator().manual_seed(0)
    return Pose.single(random_rotations(400, generator), 4 * torch.randn(400, 2, generator=generator))


@pytest.mark.parametrize("flip", [False, True])
def test_zero_at_a_global_rotation_hand_and_translation(truth, flip):
    turn = random_rotations(1, torch.Generator().manual_seed(1))[0]
    u = torch.tensor([3.0, -2.0, 5.0])
    rotation = truth.best_rotation @ turn
    rotation = mirror_rotation(rotation) if flip else rotation
    estimated = Pose.single(rotation, truth.best_shift + truth.best_rotation[:, :2] @ u)
    errors = pose_errors(estimated, truth, pixel_size=1.5)
    assert errors.hand_flipped is flip
    assert errors.rotation_error_mean < 1e-6
    assert errors.rotation_error_deg_median < 0.01
    assert errors.shift_error_px_mean_square < 1e-4
    torch.testing.assert_close(errors.translation, u, atol=1e-2, rtol=0)


def test_outliers_move_the_mean_only(truth):
    rotation = truth.best_rotation.clone()
    rotation[:80] = random_rotations(80, torch.Generator().manual_seed(2))
    shift = truth.best_shift.clone()
    shift[:80] += 30
    errors = pose_errors(Pose.single(rotation, shift), truth, pixel_size=2.0)
    assert errors.rotation_error_median < 1e-6
    assert errors.rotation_error_mean > 0.5
    assert errors.shift_error_px_median < 1e-2
    assert errors.shift_error_px_mean_square == pytest.approx(0.2 * 2 * 15**2, rel=0.05)


def test_random_poses_have_the_error_of_chance(truth):
    estimated = Pose.single(random_rotations(400, torch.Generator().manual_seed(3)))
    assert pose_errors(estimated, truth, 1.0).rotation_error_median > 4


def test_summary_uses_the_names_of_the_evaluation_file(truth):
    assert set(pose_errors(truth, truth, 1.0).summary()) == {
        "rotation_error_median",
        "rotation_error_mean",
        "rotation_error_deg_median",
        "shift_error_px_median",
        "shift_error_px_mean_square",
        "hand_flipped",
    }
