"""Widths of poses: what is drawn from them, what they cost, and where the two balance."""

import pytest
import torch

from cryoloom.model.batch import Batch
from cryoloom.model.poses.widths import NUMBERS, PoseWidths
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance, random_rotations

LIMIT = 8.0


@pytest.fixture
def batch(plant, generator) -> Batch:
    planted = plant(4, snr=1.0)
    features = torch.randn(4, 2, 16, generator=generator)
    return Batch(torch.arange(4), planted.spectrum, planted.evidence, features)


def part(generator, kl_weight: float = 1.0, limit: float = LIMIT) -> PoseWidths:
    return PoseWidths(16, limit, kl_weight, generator)


def said(generator) -> Pose:
    rotation = random_rotations(12, generator).view(4, 3, 3, 3)
    return Pose(rotation, torch.randn(4, 3, 2, generator=generator))


def test_without_noise_a_pose_is_the_one_that_was_said(batch, generator):
    pose = said(generator)
    drawn = part(generator).drawn(batch, pose, torch.zeros(4, NUMBERS))
    assert torch.allclose(drawn.rotation, pose.rotation, atol=1e-6)
    assert torch.equal(drawn.shift, pose.shift)


def test_all_hypotheses_are_turned_and_moved_alike_by_their_widths(batch, generator):
    widths, pose = part(generator), said(generator)
    noise = torch.randn(4, NUMBERS, generator=generator)
    drawn, moved = widths.drawn(batch, pose, noise), widths(batch) * noise
    turned = torch.deg2rad(angular_distance(drawn.rotation, pose.rotation))
    assert torch.allclose(turned, moved[:, :3].norm(dim=1)[:, None].expand(4, 3), atol=1e-4)
    assert torch.allclose(drawn.shift - pose.shift, moved[:, None, 3:].expand(4, 3, 2), atol=1e-5)
    assert (widths(batch)[:, 3:] < LIMIT).all()
    (drawn.rotation[..., 0, 1].sum() + drawn.shift.sum()).backward()
    assert all(p.grad is not None for p in widths.parameters())


def test_a_width_that_is_e_times_as_large_costs_one_nat_less(batch, generator):
    widths = part(generator, kl_weight=2.0)
    cost = widths.price(batch)
    assert cost.shape == (4,)
    assert torch.allclose(cost, -2 * (widths(batch) / widths.largest).log().sum(1))
    alone = part(generator, limit=0.0)
    assert torch.isfinite(alone.price(batch)).all()
    assert not alone(batch)[:, 3:].any()


@pytest.mark.parametrize(("kl_weight", "expected"), [(1.0, 1.0), (0.0, 0.0)])
def test_widths_become_those_of_the_likelihood_or_nothing_where_they_are_free(batch, generator, kl_weight, expected):
    widths = part(generator, kl_weight)
    likely = torch.tensor([0.02, 0.1, 0.05, 0.4, 0.2])
    optimiser = torch.optim.Adam(widths.parameters(), lr=0.01)
    for _ in range(600):
        # The mean over draws of a misfit ½ Σ (σ ε / s)².
        misfit = 0.5 * (widths(batch) / likely).square().sum(1)
        optimiser.zero_grad()
        (misfit + widths.price(batch)).sum().backward()
        optimiser.step()
    ratio = (widths(batch) / likely).detach()
    assert torch.allclose(ratio, torch.full_like(ratio, expected), atol=0.15)


def test_weights_go_round_through_a_state_dict(batch, generator):
    first, second = part(generator), part(generator)
    assert not torch.allclose(first(batch), second(batch))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch), second(batch))
