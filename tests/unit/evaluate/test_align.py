import pytest
import torch

from cryoloom.errors import InputError
from cryoloom.evaluate.align import align_poses
from cryoloom.physics.alignment import align_volume, refine_volume
from cryoloom.physics.fourier import fourier_shell_correlation
from cryoloom.physics.rigid import apply_to_volume, mirror_rotation
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec, point_group, random_rotations


@pytest.fixture
def true_rotations():
    return random_rotations(600, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("flip", [False, True])
def test_global_rotation_and_hand_are_found(true_rotations, flip):
    turn = random_rotations(1, torch.Generator().manual_seed(1))[0]
    estimated = true_rotations @ turn
    estimated = mirror_rotation(estimated) if flip else estimated
    found = align_poses(estimated, true_rotations)
    assert found.hand_flipped is flip
    assert angular_distance(found.rotation, turn) < 0.01
    assert found.angle_deg.max() < 0.01
    assert found.frobenius_sq.max() < 1e-6
    torch.testing.assert_close(found.apply(estimated), true_rotations, atol=1e-5, rtol=0)


def test_most_particles_may_be_wrong(true_rotations):
    generator = torch.Generator().manual_seed(2)
    turn = random_rotations(1, generator)[0]
    noise = matrix_from_rotvec(torch.deg2rad(2 * torch.randn(600, 3, generator=generator)))
    estimated = noise @ true_rotations @ turn
    estimated[::10] = random_rotations(60, generator)
    wrong = torch.randperm(600, generator=generator)[:450]
    estimated[wrong] = random_rotations(450, generator)
    found = align_poses(estimated, true_rotations)
    assert angular_distance(found.rotation, turn) < 1.0
    assert not found.hand_flipped


@pytest.mark.parametrize("name", ["C3", "D2", "O"])
def test_any_symmetry_copy_is_right(true_rotations, name):
    group = point_group(name)
    generator = torch.Generator().manual_seed(3)
    turn = random_rotations(1, generator)[0]
    copy = group[torch.randint(len(group), (600,), generator=generator)]
    estimated = mirror_rotation(true_rotations @ copy @ turn)
    found = align_poses(estimated, true_rotations, group)
    assert found.hand_flipped
    assert found.angle_deg.max() < 0.01
    if name != "O":
        assert align_poses(estimated, true_rotations).angle_deg.median() > 1


def test_unequal_numbers_are_refused(true_rotations):
    with pytest.raises(InputError, match="600"):
        align_poses(true_rotations[:5], true_rotations)


@pytest.mark.parametrize("flip", [False, True])
def test_a_moved_map_is_moved_back(blob_map, flip):
    generator = torch.Generator().manual_seed(5 + flip)
    turn = random_rotations(1, generator)[0]
    moved = apply_to_volume(blob_map, turn, flip, torch.tensor([2.0, -1.0, 1.5]))
    found = align_volume(moved, blob_map)
    # out(v) = V(M Rᵀ(v − t)): undoing a flip and a turn R is a flip and the turn M Rᵀ M.
    expected = mirror_rotation(turn.T) if flip else turn.T
    assert found.hand_flipped is flip
    assert angular_distance(found.rotation, expected) < 0.5
    assert fourier_shell_correlation(found.volume, blob_map)[1:8].min() > 0.99


def test_a_rough_placement_is_refined(blob_map):
    turn = matrix_from_rotvec(torch.tensor([0.05, -0.06, 0.04]))
    moved = apply_to_volume(blob_map, turn, translation=torch.tensor([0.7, -0.4, 0.3]))
    found = refine_volume(moved, blob_map, torch.eye(3), False, torch.zeros(3))
    assert angular_distance(found.rotation, turn.T) < 0.2
    assert found.correlation > 0.995
