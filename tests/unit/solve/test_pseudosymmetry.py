"""Approximate symmetries are found where there are some, and only there."""

import pytest
import torch

from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec, point_group, random_rotations
from cryoloom.solve.em.pseudosymmetry import Copies, find_copies

BOX = 40


def ball(centre: torch.Tensor, width: float) -> torch.Tensor:
    axis = torch.arange(BOX, dtype=torch.float32) - BOX // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    return torch.exp(-squared / (2 * width**2))


def trimer(centre: torch.Tensor, odd: float) -> torch.Tensor:
    """Three arms of two balls about the z axis through `centre`; the first has an extra ball of weight `odd`."""
    volume = torch.zeros(BOX, BOX, BOX)
    for turn in point_group("C3"):
        for place, width in (([7.0, 1.0, 2.0], 2.0), ([4.0, -3.0, -6.0], 1.6)):
            volume += ball(turn @ torch.tensor(place) + centre, width)
    return volume + odd * ball(torch.tensor([9.0, 4.0, -3.0]) + centre, 2.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_nearly_threefold_molecule_has_two_copies_about_its_own_centre(sign):
    centre = torch.tensor([2.0, -1.5, 1.0])
    found = find_copies(sign * trimer(centre, odd=0.4), 12.0)
    assert len(found) == 2
    expected = point_group("C3")[1:]
    apart = angular_distance(found.rotation[:, None], expected)
    assert float(apart.amin(1).max()) < 3
    assert sorted(apart.argmin(1).tolist()) == [0, 1]
    assert float((found.centre - centre)[:2].norm()) < 1.0
    assert float(found.correlation.min()) > 0.8


def test_a_molecule_without_symmetry_has_none(blobs):
    assert len(find_copies(blobs, 10.0)) == 0
    assert len(find_copies(torch.zeros(BOX, BOX, BOX), 10.0)) == 0


def test_a_copy_of_a_pose_gives_the_same_image_of_a_symmetric_molecule(generator):
    centre = torch.tensor([2.0, -1.5, 1.0])
    projector = FourierSlice.of_volume(trimer(centre, odd=0.0), 2)
    lattice = FrequencyLattice.of_box(BOX).prefix(10)
    copies = Copies(point_group("C3")[1:], centre, torch.ones(2))
    rotation, shift = copies.poses(random_rotations(4, generator), torch.randn(4, 2, generator=generator))
    assert rotation.shape == (4, 3, 3, 3)
    slices = projector.project(rotation.flatten(0, 1), lattice).view(4, 3, -1)
    images = slices * shift_phases(lattice.k, shift, BOX)
    assert float((images[:, 1:] - images[:, :1]).norm() / images.norm()) < 0.02


def test_what_the_point_group_says_is_not_tried_again():
    near = matrix_from_rotvec(torch.tensor([0.0, 0.0, 0.03])) @ point_group("C3")[1]
    odd = matrix_from_rotvec(torch.tensor([1.0, 0.0, 0.0]))
    copies = Copies(torch.stack([near, odd]), torch.zeros(3), torch.tensor([0.9, 0.8]))
    left = copies.beyond(point_group("C3"))
    assert torch.equal(left.rotation, odd[None])
    assert len(copies.beyond(point_group("C1"))) == 2
    assert len(Copies.none().beyond(point_group("C1"))) == 0
