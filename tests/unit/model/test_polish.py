"""Newton steps in rotation and shift: right slopes, right end, and an uncertainty that can be believed."""

import math

import pytest
import roma
import torch
from torch import Tensor

from cryoloom.model.poses.polish import Modes, curvature, curvature_in_torch, polish
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec, random_rotations


def off(rotation: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotations turned by `degrees` about random axes."""
    axis = torch.nn.functional.normalize(torch.randn(len(rotation), 3, generator=generator), dim=1)
    return matrix_from_rotvec(math.radians(degrees) * axis) @ rotation


def aside(shift: Tensor, pixels: float, generator: torch.Generator) -> Tensor:
    """Shifts moved by `pixels` in random directions."""
    return shift + pixels * torch.nn.functional.normalize(torch.randn(len(shift), 2, generator=generator), dim=1)


BY_LOOP_OR_ARRAYS = pytest.mark.parametrize("curve", [curvature, curvature_in_torch])


@BY_LOOP_OR_ARRAYS
def test_gradient_is_the_slope_of_the_score(curve, plant, generator):
    images = plant(8, snr=1.0)
    rotation, shift = off(images.rotation, 4, generator), aside(images.shift, 0.5, generator)
    score, gradient, _ = curve(images.projector, images.evidence, rotation[:, None], shift[:, None])
    for i in range(8):
        assert float(score[i, 0]) == pytest.approx(images.score(i, rotation[i], shift[i]), rel=1e-3, abs=0.1)
        slope = []
        for axis in range(5):
            step = torch.zeros(5)
            step[axis] = 4e-3
            ends = [
                images.score(i, matrix_from_rotvec(sign * step[:3]) @ rotation[i], shift[i] + sign * step[3:])
                for sign in (1, -1)
            ]
            slope.append((ends[0] - ends[1]) / 8e-3)
        # Interpolation is linear between grid points, so that its slope jumps there.
        expected = torch.tensor(slope)
        for part in (slice(0, 3), slice(3, 5)):
            difference = (gradient[i, 0, part] - expected[part]).norm()
            assert difference < 0.05 * expected[part].norm() + 0.02 * expected.norm()


@BY_LOOP_OR_ARRAYS
def test_fisher_information_is_the_curvature_of_a_clean_image(curve, plant):
    images = plant(4, snr=1e6)
    rotation, shift = images.rotation[:, None], images.shift[:, None]
    _, gradient, fisher = curve(images.projector, images.evidence, rotation, shift)
    assert gradient.abs().max() < 1e-2 * fisher.diagonal(dim1=-2, dim2=-1).min()
    h = 0.02
    for i in range(4):
        top = images.score(i, images.rotation[i], images.shift[i])
        for axis in range(5):
            step = torch.zeros(5)
            step[axis] = h if axis < 3 else 5 * h
            drop = [
                top
                - images.score(i, matrix_from_rotvec(s * step[:3]) @ images.rotation[i], images.shift[i] + s * step[3:])
                for s in (1, -1)
            ]
            expected = float(fisher[i, 0, axis, axis])
            assert sum(drop) / float(step[axis]) ** 2 == pytest.approx(expected, rel=0.15)


def test_the_compiled_loop_is_the_array_formula(plant, generator):
    images = plant(5, snr=1.0)
    rotation = random_rotations(15, generator).view(5, 3, 3, 3)
    shift = 2 * torch.randn(5, 3, 2, generator=generator)
    for fast, plain in zip(
        curvature(images.projector, images.evidence, rotation, shift),
        curvature_in_torch(images.projector, images.evidence, rotation, shift),
        strict=True,
    ):
        assert fast.shape == plain.shape
        assert (fast - plain).norm() < 1e-4 * plain.norm()


def test_converges_to_the_truth_from_five_degrees_and_two_thirds_of_a_pixel(plant, generator):
    images = plant(40, snr=1e6)
    rotation, shift = off(images.rotation, 5, generator), aside(images.shift, 0.7, generator)
    modes = polish(images.projector, images.evidence, rotation[:, None], shift[:, None], steps=8)
    left = angular_distance(modes.rotation[:, 0], images.rotation)
    assert float(left.median()) < 0.02
    assert float(left.max()) < 0.5
    assert float((modes.shift[:, 0] - images.shift).norm(dim=1).max()) < 0.05


def test_never_ends_lower_than_it_began(plant, generator):
    images = plant(20, snr=0.05)
    rotation = off(images.rotation, 20, generator)[:, None]
    shift = aside(images.shift, 2, generator)[:, None]
    before, _, _ = curvature(images.projector, images.evidence, rotation, shift)
    after = polish(images.projector, images.evidence, rotation, shift, steps=4)
    assert (after.score >= before).all()
    again, _, _ = curvature(images.projector, images.evidence, after.rotation, after.shift)
    assert torch.allclose(after.score, again, rtol=1e-3, atol=0.05)
    assert float((after.rotation.mT @ after.rotation - torch.eye(3)).abs().max()) < 1e-4


def test_the_uncertainty_is_that_of_noisy_images(plant):
    images = plant(1000, snr=10.0)
    modes = polish(images.projector, images.evidence, images.rotation[:, None], images.shift[:, None], steps=6)
    turned = roma.rotmat_to_rotvec(modes.rotation[:, 0] @ images.rotation.mT)
    error = torch.cat([turned, modes.shift[:, 0] - images.shift], 1)
    normalised = torch.einsum("bi,bij,bj->b", error, torch.linalg.inv(modes.covariance[:, 0]), error) / 5
    # χ² of 5 degrees of freedom over 5: mean 1, and 95 % below 2.2.
    assert 0.85 < float(normalised.mean()) < 1.2
    assert 0.91 < float((normalised < 2.2).float().mean()) < 0.99
    rotation_sigma, shift_sigma = modes.sigma()
    measured = torch.rad2deg(turned.square().sum(1).mean().sqrt())
    assert float(rotation_sigma.square().mean().sqrt()) == pytest.approx(float(measured), rel=0.2)
    measured = error[:, 3:].square().sum(1).mean().sqrt()
    assert float(shift_sigma.square().mean().sqrt()) == pytest.approx(float(measured), rel=0.2)


def test_without_information_the_prior_bounds_the_covariance(plant):
    images = plant(2, snr=1e-9)
    modes = polish(images.projector, images.evidence, images.rotation[:, None], images.shift[:, None], steps=1)
    sigma, _ = modes.sigma()
    assert torch.isfinite(modes.covariance).all()
    assert (sigma > 30).all()


def some_modes(score: list[float], degrees: list[float], width: list[float] | None = None) -> Modes:
    """One particle whose modes lie `degrees` about z from the first, with isotropic widths (radians)."""
    turn = torch.zeros(len(score), 3)
    turn[:, 2] = torch.deg2rad(torch.tensor(degrees))
    widths = torch.tensor(width or [0.01] * len(score))
    covariance = torch.eye(5) * widths[:, None, None] ** 2
    shift = torch.zeros(len(score), 2)
    shift[:, 0] = torch.tensor(degrees) / 10
    return Modes(matrix_from_rotvec(turn)[None], shift[None], torch.tensor([score]), covariance[None])


def test_weights_are_height_times_width():
    modes = some_modes([1.0, 1.0 + math.log(3)], [0, 90], [0.02, 0.02])
    assert modes.weights()[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-5)
    wide = some_modes([0.0, 0.0], [0, 90], [0.02, 0.01])
    assert wide.weights()[0].tolist() == pytest.approx([32 / 33, 1 / 33], abs=1e-5)


def test_order_puts_the_most_probable_first():
    modes = some_modes([0.0, 2.0, 1.0], [0, 90, 45])
    ordered = modes.order()
    assert ordered.score[0].tolist() == [2.0, 1.0, 0.0]
    assert torch.equal(ordered.rotation[0], modes.rotation[0, [1, 2, 0]])
    assert torch.equal(ordered.shift[0], modes.shift[0, [1, 2, 0]])
    assert (ordered.best() == 0).all()
    assert int(modes.best()) == 1


def test_modes_that_ran_into_each_other_count_once():
    modes = some_modes([1.0, 3.0, 2.9, 0.5], [40, 0, 1, 41]).distinct(3.0)
    assert modes.score[0].tolist() == [3.0, -math.inf, 1.0, -math.inf]
    assert modes.weights()[0, [1, 3]].tolist() == [0, 0]
    apart = some_modes([1.0, 3.0], [0, 4]).distinct(3.0)
    assert torch.isfinite(apart.score).all()


def test_sigma_adds_the_spread_of_the_modes_to_their_widths():
    rotation, shift = some_modes([0.0], [0], [0.02]).sigma()
    assert float(rotation) == pytest.approx(math.degrees(0.02 * math.sqrt(3)), rel=0.02)
    assert float(shift) == pytest.approx(0.02 * math.sqrt(2), rel=1e-3)
    rotation, shift = some_modes([0.0, 0.0], [0, 60], [1e-4, 1e-4]).sigma()
    assert float(rotation) == pytest.approx(60 / math.sqrt(2), rel=1e-3)
    assert float(shift) == pytest.approx(6 / math.sqrt(2), rel=1e-3)


def test_sigma_stays_within_half_a_turn(generator):
    flat = Modes(
        random_rotations(1, generator)[None], torch.zeros(1, 1, 2), torch.zeros(1, 1), 9 * torch.eye(5)[None, None]
    )
    assert float(flat.sigma()[0]) == 180.0
