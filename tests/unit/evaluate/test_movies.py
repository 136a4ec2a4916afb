"""Scores of movies' frames, and the linear smoother that a DVAE is compared with."""

import math

import pytest
import torch

from cryoloom.evaluate.latents import conformation_correlation
from cryoloom.evaluate.movies import (
    LOW_PASS,
    MovieTruth,
    improvement,
    likeness,
    nearest_coordinate,
    placed_on_truth,
    score_frames,
)
from cryoloom.evaluate.smoothing import smoothed
from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import matrix_from_rotvec
from cryoloom.simulate.phantom import phantom


@pytest.fixture(scope="module")
def path() -> torch.Tensor:
    """Five openings of the phantom."""
    return torch.stack([phantom(24, 5.0, opening) for opening in (0.0, 0.25, 0.5, 0.75, 1.0)])


def test_a_map_is_found_on_its_path(path):
    assert nearest_coordinate(path[3], path) == pytest.approx(0.75, abs=0.03)
    assert nearest_coordinate(3 * path[0] + 1, path) == 0
    between = nearest_coordinate(phantom(24, 5.0, 0.6), path)
    assert between == pytest.approx(0.6, abs=0.05)
    assert nearest_coordinate(path[4], path[4:]) == 0


def test_likeness_ignores_grey_values_and_falls_with_noise(path):
    noise = torch.randn(path[0].shape, generator=torch.Generator().manual_seed(0)) * path[0].std()
    same, near, far = (likeness(volume, path[0]) for volume in (3 * path[0] - 1, path[0] + noise, path[0] + 3 * noise))
    assert same[0] > 60
    assert same[1] == pytest.approx(1, abs=1e-3)
    assert same[0] > near[0] > far[0]
    assert same[1] > near[1] > far[1]
    # Of all noise the filter keeps the share of its sphere, (4π/3)(1/3)³, and fitting the grey values shrinks that.
    smooth = centred_ifft3(centred_fft3(path[0]) * (radii3(24) <= LOW_PASS * 12))
    kept, peak = 0.155 / 1.155 * float(path[0].var()), float(smooth.max() - smooth.min())
    assert near[0] == pytest.approx(10 * math.log10(peak**2 / kept), abs=0.5)


def test_the_improvement_factor_is_that_of_the_paper():
    found = improvement(torch.tensor([10.0, 10.0, 8.0]), torch.tensor([9.0, 11.0, 8.0]))
    assert found.tolist() == pytest.approx([0.1, -0.1, 0.0])


def test_rank_correlation_needs_no_straight_line():
    coordinate = torch.linspace(0, 1, 50)
    bent = torch.stack([-(coordinate.exp() ** 3), 0.01 * torch.randn(50)], 1)
    assert conformation_correlation(bent.numpy(), coordinate.numpy()) == pytest.approx(1.0)
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert conformation_correlation(noise.numpy(), coordinate.numpy()) < 0.4


def test_smoothing_takes_noise_off_what_moves_slowly():
    generator = torch.Generator().manual_seed(0)
    movie = torch.arange(40).repeat_interleave(12)
    frame = torch.arange(12).repeat(40)
    keep, x = 0.9, [torch.randn(40, generator=generator)]
    for _ in range(11):
        x.append(keep * x[-1] + math.sqrt(1 - keep**2) * torch.randn(40, generator=generator))
    true = torch.stack(x, 1).flatten()
    noisy = true + 0.8 * torch.randn(480, generator=generator)
    mixed = torch.randperm(480, generator=generator)
    found = smoothed(torch.stack([noisy, torch.randn(480, generator=generator)], 1)[mixed], movie[mixed], frame[mixed])
    before, after = (noisy - true).square().mean(), (found[:, 0] - true[mixed]).square().mean()
    assert after < 0.5 * before
    # Noise without memory is drawn to its mean, or left alone, never made larger.
    assert found[:, 1].std() < 1.05


def test_frames_far_apart_are_not_drawn_together():
    movie, near, far = torch.zeros(40).long(), torch.arange(40), 1000 * torch.arange(40)
    jumps = torch.arange(40).remainder(2).mul(2.0).sub(1)[:, None] + torch.linspace(-2, 2, 40)[:, None]
    drawn = smoothed(jumps, movie, near)
    assert (drawn - torch.linspace(-2, 2, 40)[:, None]).abs().mean() < 0.5
    # Nothing tells signal from noise where no frame knows another: both shares are as likely, none moves signs.
    assert torch.equal(smoothed(jumps, movie, far).sign(), jumps.sign())


class Answers:
    """Stands for a run: the map of a latent is a map of the path, with some of the first in it."""

    z = torch.tensor([[0.0], [2.0], [0.0], [1.0]])

    def __init__(self, path: torch.Tensor):
        self.path, self.asked = path, []

    def volume(self, z: torch.Tensor) -> torch.Tensor:
        self.asked.append(float(z))
        return self.path[int(z)] + 0.1 * self.path[0]


def test_frames_that_are_alike_are_scored_once(path):
    truth = MovieTruth(path[:3], torch.tensor([0, 2, 0, 1]), torch.tensor([0.0, 1.0, 0.0, 0.5]), 5.0)
    run = Answers(path)
    scores = score_frames(run.volume, truth, run.z)
    assert sorted(run.asked) == [0, 1, 2]
    assert torch.equal(scores.curves[0], scores.curves[2])
    assert not torch.equal(scores.curves[0], scores.curves[1])
    assert scores.found.tolist() == pytest.approx([0, 1, 0, 0.5], abs=0.2)
    assert torch.equal(scores.true, truth.coordinate)
    assert torch.equal(score_frames(run.volume, truth, run.z, [3]).curves[0], scores.curves[3])


class Turned(Answers):
    """Stands for a run that found its poses: each conformation lies in a frame that is turned a little more."""

    def volume(self, z: torch.Tensor) -> torch.Tensor:
        angle = 0.15 * (1 + float(z))
        return apply_to_volume(self.path[int(z)], matrix_from_rotvec(torch.tensor([0.0, angle, 0.0])))


def test_maps_of_found_poses_are_compared_in_the_frame_of_each_conformation(path):
    truth = MovieTruth(path[:4], torch.tensor([0, 2, 0, 1]), torch.tensor([0.0, 1.0, 0.0, 0.5]), 5.0)
    run = Turned(path)
    placed = placed_on_truth(run, truth)
    own = score_frames(run.volume, truth, run.z, placed=placed)
    one = score_frames(run.volume, truth, run.z, placed=[placed[1]] * 4)
    assert own.curves.mean(1).min() > 0.95
    assert one.curves.mean(1)[1] < own.curves.mean(1)[1] - 0.05
    # No frame was seen in the last conformation: it lies as the mean of all does.
    assert placed[3].correlation < placed[0].correlation
