"""Poses that learn: the table moves only whom it saw, the regressor reads poses off images."""

import pytest
import torch

from cryoloom.model.batch import Batch
from cryoloom.model.encoders import Encoder, EncoderSettings, small_images
from cryoloom.model.poses.heads import HEADS
from cryoloom.model.poses.orientation import OrientationEncoder
from cryoloom.model.poses.regressor import PoseRegressor
from cryoloom.model.poses.table import PoseTable
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec, random_rotations
from cryoloom.solve.descent import optimiser_of


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


ENCODERS = [EncoderSettings(network=network, box=16, width=8, features=32) for network in ("cnn", "vgg", "mlp")]


def read(encoder: Encoder, planted) -> Batch:
    batch = batch_of(planted)
    return batch.read(encoder(batch))


@pytest.mark.parametrize("settings", ENCODERS, ids=lambda s: s.network)
@pytest.mark.parametrize("head", HEADS)
def test_a_regressor_gives_rotations_and_bounded_shifts(plant, generator, settings, head):
    encoder = Encoder(settings, 2, generator)
    regressor = PoseRegressor(encoder.features, head, 8.0, generator, hypotheses=3)
    pose = regressor(read(encoder, plant(4, snr=1.0)))
    assert pose.rotation.shape == (4, 6, 3, 3)
    assert pose.shift.shape == (4, 6, 2)
    unit = pose.rotation @ pose.rotation.transpose(-1, -2)
    assert torch.allclose(unit, torch.eye(3).expand_as(unit), atol=1e-5)
    assert torch.allclose(torch.linalg.det(pose.rotation), torch.ones(4, 6), atol=1e-5)
    assert pose.shift.abs().max() <= 8
    (pose.rotation[..., 0, 1].sum() + pose.shift.sum()).backward()
    assert all(p.grad is not None for part in (encoder, regressor) for p in part.parameters())
    assert float(angular_distance(pose.rotation[0], pose.rotation[1]).max().detach()) > 0


@pytest.mark.parametrize("head", HEADS)
def test_every_rotation_can_be_said(head, generator):
    numbers, rotation_of = HEADS[head]
    wanted = random_rotations(8, generator)
    said = torch.randn(8, numbers, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([said], lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        (rotation_of(said) - wanted).square().sum().backward()
        optimiser.step()
    # A chart may hold one of them at a saddle for long.
    assert float(angular_distance(rotation_of(said), wanted).detach().median()) < 0.5


def test_the_second_view_of_an_image_is_the_first_of_the_image_turned_by_pi(plant, generator):
    planted = plant(4, snr=1.0)
    encoder = Encoder(ENCODERS[0], 2, generator)
    regressor = PoseRegressor(encoder.features, "s2s2", 8.0, generator)
    turned = Batch(torch.arange(4), planted.lattice.spectrum(turn_by_pi(planted)), planted.evidence)
    features = encoder(batch_of(planted)), encoder(turned)
    assert torch.allclose(features[0], features[1].flip(1), atol=1e-4)
    pose, other = (regressor(batch_of(planted).read(f)) for f in features)
    # The same reading of the same picture, said of the image before it was turned.
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    assert torch.allclose(pose.rotation[:, 1], half_turn @ other.rotation[:, 0], atol=1e-4)
    assert torch.allclose(pose.shift[:, 1], -other.shift[:, 0], atol=1e-4)


def turn_by_pi(planted) -> torch.Tensor:
    images = planted.lattice.images(planted.spectrum)
    return images.flip((1, 2)).roll((1, 1), (1, 2))


def test_views_all_around_cost_nothing(plant, generator):
    batch = batch_of(plant(4, snr=1.0))
    spread = PoseRegressor(32, "s2s2", 0.0, generator, spread=1.0)

    def price(rotations: torch.Tensor) -> float:
        paid = spread.penalty(batch, Pose.single(rotations))
        assert paid.shape == (4,)
        return float(paid[0]) / len(batch.lattice)

    around, one = random_rotations(4000, generator), random_rotations(1, generator)[0].expand(4000, 3, 3)
    spin = matrix_from_rotvec(torch.tensor([0.0, 0.0, 6.283]) * torch.rand(4000, 1, generator=generator)) @ one
    assert price(around) < 0.01 < price(spin) < price(one)
    assert not PoseRegressor(32, "s2s2", 0.0, generator).penalty(batch, Pose.single(one)).any()


def test_shifts_can_be_given(plant, generator):
    planted = plant(4, snr=1.0)
    encoder, given = Encoder(ENCODERS[0], 2, generator), torch.randn(9, 2, generator=generator)
    index = torch.tensor([8, 0, 3, 5])
    batch = batch_of(planted, index)
    batch = batch.read(encoder(batch))
    pose = PoseRegressor(32, "s2s2", 0.0, generator, given=given)(batch)
    assert torch.equal(pose.shift, given[index][:, None].expand(4, 2, 2))
    assert not PoseRegressor(32, "s2s2", 0.0, generator)(batch).shift.any()


def test_small_images_are_the_images_at_low_frequency(plant):
    planted = plant(3, snr=1e6)
    images = small_images(planted.spectrum, planted.lattice, 16, low_pass=2)
    whole = planted.lattice.images(planted.spectrum)
    assert images.shape == (3, 3, 16, 16)
    # The smaller box samples every second pixel of what is left below its band.
    low = planted.lattice.prefix(7)
    expected = low.images(planted.spectrum[:, : len(low)])[:, ::2, ::2]
    assert torch.allclose(images[:, 0], expected / expected.flatten(1).std(1)[:, None, None], atol=1e-4)
    assert whole.shape[-1] == 32
    power = torch.fft.fft2(images).abs().square()
    share = power[..., 4:13, 4:13].sum((2, 3)) / power.sum((2, 3))
    assert (share[:, 0] > share[:, 1]).all()
    assert (share[:, 1] > share[:, 2]).all()


SMALL = EncoderSettings(network="mlp", box=16, width=2, layers=2, features=16)


def orientation(generator, weight: float = 2.0) -> OrientationEncoder:
    start = Pose.single(random_rotations(9, generator), torch.randn(9, 2, generator=generator))
    return OrientationEncoder(SMALL, start, 4.0, weight, generator)


def test_an_orientation_encoder_stays_near_what_is_given_and_follows_the_gradient(plant, generator):
    planted, encoder = plant(4, snr=1.0), orientation(generator)
    batch = batch_of(planted, torch.tensor([8, 0, 3, 5]))
    pose, given = encoder(batch), encoder.given(batch)
    assert pose.rotation.shape == (4, 1, 3, 3)
    assert pose.shift.shape == (4, 1, 2)
    unit = pose.rotation @ pose.rotation.transpose(-1, -2)
    assert torch.allclose(unit, torch.eye(3).expand_as(unit), atol=1e-5)
    moved = angular_distance(pose.best_rotation, given.rotation)
    assert 0 < float(moved.detach().max()) < 40
    (pose.rotation[:, 0, 0, 1].sum() + pose.shift.sum()).backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_straying_costs_what_equation_2_says(plant, generator):
    encoder = orientation(generator)
    batch = batch_of(plant(4, snr=1.0), torch.tensor([8, 0, 3, 5]))
    rotation, shift = encoder.given(batch)
    assert not encoder.penalty(batch, Pose.single(rotation, shift)).any()
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0])) @ rotation
    far = encoder.penalty(batch, Pose.single(half_turn, shift + torch.tensor([4.0, -8.0])))
    # ‖R − R₀‖ of a half turn is √8; shifts count in units of the largest one, 4 Å.
    assert torch.allclose(far, torch.full((4,), 2.0 * (8**0.5 / 9 + 3 / 2)), atol=1e-5)


def test_its_penalty_alone_teaches_it_the_given_poses(plant, generator):
    encoder, batch = orientation(generator), batch_of(plant(4, snr=1.0), torch.tensor([8, 0, 3, 5]))
    optimiser = optimiser_of(encoder)
    first = float(encoder.penalty(batch, encoder(batch)).detach().sum())
    for _ in range(200):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3
        optimiser.zero_grad()
        encoder.penalty(batch, encoder(batch)).sum().backward()
        optimiser.step()
    assert float(encoder.penalty(batch, encoder(batch)).detach().sum()) < 0.3 * first
