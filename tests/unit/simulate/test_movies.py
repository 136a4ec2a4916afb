"""Conformations and orientations along a movie."""

import torch

from cryoloom.physics.so3 import angular_distance, random_rotations
from cryoloom.simulate.movies import coordinate_paths, drifting, tumbling


def test_constant_motion_goes_from_first_to_last():
    path = coordinate_paths("constant", 3, 5, torch.Generator())
    assert torch.allclose(path, torch.linspace(0, 1, 5).expand(3, 5))


def test_reversing_motion_keeps_its_speed():
    path = coordinate_paths("reversing", 200, 21, torch.Generator().manual_seed(1))
    assert path.min() >= 0
    assert path.max() <= 1
    assert path.diff(dim=1).abs().max() < 0.05 + 1e-5
    assert path.diff(dim=1).abs().median() > 0.05 - 1e-5


def test_fluctuating_motion_has_the_stated_spread_and_memory():
    path = coordinate_paths("fluctuating", 4000, 30, torch.Generator().manual_seed(1))
    assert abs(float(path.mean()) - 0.5) < 0.01
    assert abs(float(path.std()) - 0.24) < 0.02
    near = torch.corrcoef(torch.stack([path[:, 0], path[:, 1]]))[0, 1]
    far = torch.corrcoef(torch.stack([path[:, 0], path[:, 29]]))[0, 1]
    assert near > 0.85
    assert far.abs() < 0.15


def test_tumbling_turns_by_the_stated_angle():
    generator = torch.Generator().manual_seed(2)
    rotations = tumbling(random_rotations(500, generator), 4, 10.0, generator)
    steps = angular_distance(rotations[:, 1:], rotations[:, :-1])
    assert abs(float(steps.square().mean().sqrt()) - 10) < 0.5


def test_drift_goes_straight_on_at_the_stated_speed():
    generator = torch.Generator().manual_seed(2)
    first = torch.rand(300, 2, generator=generator)
    shifts = drifting(first, 5, 0.7, generator)
    assert torch.equal(shifts[:, 0], first)
    steps = shifts.diff(dim=1)
    assert torch.allclose(steps.norm(dim=-1), torch.tensor(0.7), atol=1e-5)
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-5)
    assert float(steps[:, 0].mean(0).norm()) < 0.1
