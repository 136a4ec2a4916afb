"""Poses that learn: the table moves only whom it saw, the regressor reads poses off images."""

import torch

from cryoloom.model.batch import Batch
from cryoloom.model.encoders import ConvolutionalEncoder, small_images
from cryoloom.model.poses.regressor import PoseRegressor
from cryoloom.model.poses.table import PoseTable
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance, random_rotations
from cryoloom.solve.fit import optimiser_of


def batch_of(planted, index=None) -> Batch:
    return Batch(torch.arange(len(planted.spectrum)) if index is None else index, planted.spectrum, planted.evidence)


def test_a_table_starts_where_it_was_told(plant, generator):
    planted = plant(4, snr=1.0)
    start = Pose.single(random_rotations(9, generator), torch.randn(9, 2, generator=generator))
    index = torch.tensor([8, 0, 3, 5])
    pose = PoseTable(start, pixel_size=2.0)(batch_of(planted, index))
    assert torch.allclose(pose.rotation, start.rotation[index], atol=1e-6)
    assert torch.equal(pose.shift, start.shift[index])


def test_a_step_moves_only_the_particles_of_its_batch(plant, generator):
    planted = plant(4, snr=1.0)
    table = PoseTable(Pose.single(random_rotations(9, generator)), pixel_size=2.0)
    optimiser = optimiser_of(table)
    for index in ([8, 0, 3, 5], [1, 0, 3, 5]):
        pose = table(batch_of(planted, torch.tensor(index)))
        optimiser.zero_grad()
        (pose.rotation[:, 0, 0, 1].sum() + pose.shift.sum()).backward()
        assert table.move.weight.grad.is_sparse
        before = table.move.weight.detach().clone()
        optimiser.step()
        moved = (table.move.weight != before).any(1).nonzero()[:, 0]
        assert moved.tolist() == sorted(index)


def test_a_regressor_gives_rotations_and_bounded_shifts(plant, generator):
    planted = plant(4, snr=1.0)
    regressor = PoseRegressor(ConvolutionalEncoder(box=16), 8.0, generator, hypotheses=3)
    pose = regressor(batch_of(planted))
    assert pose.rotation.shape == (4, 3, 3, 3)
    assert pose.shift.shape == (4, 3, 2)
    unit = pose.rotation @ pose.rotation.transpose(-1, -2)
    assert torch.allclose(unit, torch.eye(3).expand_as(unit), atol=1e-5)
    assert pose.shift.abs().max() <= 8
    (pose.rotation[..., 0, 1].sum() + pose.shift.sum()).backward()
    assert all(p.grad is not None for p in regressor.parameters())
    assert float(angular_distance(pose.rotation[0], pose.rotation[1]).max().detach()) > 0


def test_small_images_are_the_images_at_low_frequency(plant):
    planted = plant(3, snr=1e6)
    images = small_images(batch_of(planted), 16)
    whole = planted.lattice.images(planted.spectrum)
    # The smaller box samples every second pixel of what is left below its band.
    low = planted.lattice.prefix(7)
    expected = low.images(planted.spectrum[:, : len(low)])[:, ::2, ::2]
    assert torch.allclose(images, expected / expected.flatten(1).std(1)[:, None, None], atol=1e-4)
    assert whole.shape[-1] == 32
