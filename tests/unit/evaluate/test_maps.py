import pytest
import torch
from torch.nn.functional import cosine_similarity

from cryoloom.evaluate.fsc import fsc
from cryoloom.physics.fourier import resample_volume
from cryoloom.physics.rigid import apply_to_volume, mirror_rotation, mirror_volume
from cryoloom.physics.so3 import matrix_from_rotvec, random_rotations


def project(volume, rotation):
    """∫ V(Rᵀ(x, y, z)) dz: the map is turned by R, then summed along z."""
    return apply_to_volume(volume, rotation).sum(0)


def test_a_quarter_turn_about_z_moves_x_to_y():
    volume = torch.zeros(16, 16, 16)
    volume[8, 8, 12] = 1.0  # at x = 4
    turned = apply_to_volume(volume, matrix_from_rotvec(torch.tensor([0.0, 0.0, torch.pi / 2])))
    assert torch.unravel_index(turned.argmax(), turned.shape) == (8, 12, 8)


def test_translation_is_in_voxels_xyz():
    volume = torch.zeros(16, 16, 16)
    volume[8, 8, 8] = 1.0
    moved = apply_to_volume(volume, torch.eye(3), translation=torch.tensor([1.0, 2.0, -3.0]))
    assert torch.unravel_index(moved.argmax(), moved.shape) == (5, 10, 9)


@pytest.mark.parametrize("box", [15, 16])
def test_mirror_keeps_the_centre_plane(box):
    volume = torch.rand(box, box, box)
    mirrored = mirror_volume(volume)
    torch.testing.assert_close(mirrored[box // 2], volume[box // 2])
    torch.testing.assert_close(mirrored[box // 2 + 3], volume[box // 2 - 3])


def test_projections_of_the_mirrored_map_in_mirrored_poses_are_the_same(blob_map):
    generator = torch.Generator().manual_seed(1)
    for rotation in random_rotations(5, generator):
        image = project(blob_map, rotation)
        mirrored = project(mirror_volume(blob_map), mirror_rotation(rotation))
        inversion = torch.diag(torch.tensor([-1, -1, 1.0]))
        inverted = project(blob_map.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2)), inversion @ rotation)
        unmoved = project(mirror_volume(blob_map), rotation)
        torch.testing.assert_close(mirrored, image, atol=0.01 * float(image.max()), rtol=0)
        torch.testing.assert_close(inverted, image, atol=0.01 * float(image.max()), rtol=0)
        assert cosine_similarity(unmoved.flatten(), image.flatten(), dim=0) < 0.95


def test_poses_follow_the_map(blob_map):
    pose, turn = random_rotations(2, torch.Generator().manual_seed(2))
    for flip in (False, True):
        moved = apply_to_volume(blob_map, turn, flip)
        new_pose = (mirror_rotation(pose) if flip else pose) @ turn.T
        image = project(blob_map, pose)
        torch.testing.assert_close(project(moved, new_pose), image, atol=0.02 * float(image.max()), rtol=0)


def test_turning_there_and_back_keeps_the_outer_shells():
    noise = torch.randn(32, 32, 32, generator=torch.Generator().manual_seed(3))
    axis = torch.arange(32.0) - 16
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) < 12**2
    turn = random_rotations(1, torch.Generator().manual_seed(4))[0]
    back = apply_to_volume(apply_to_volume(noise * ball, turn), turn.T)
    assert fsc(back, noise * ball, 1.0).fsc[1:14].min() > 0.9


def test_resampling_keeps_grey_values_and_inverts(blob_map):
    finer = resample_volume(blob_map, 48)
    assert float(finer.max()) == pytest.approx(float(blob_map.max()), rel=0.1)
    torch.testing.assert_close(resample_volume(finer, 32), blob_map, atol=1e-3, rtol=0)
