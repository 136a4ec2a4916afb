"""Poses along movies: how far molecules turn is found, and frames correct each other."""

import math

import pytest
import torch

from cryoloom.model.movie_grid import MovieGrid
from cryoloom.model.poses.frames import along_movies, beside, drawn_together, tumbling
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec, random_rotations

MOVIES, FRAMES = 120, 12
STEP, ERROR = math.radians(6), math.radians(4)


@pytest.fixture
def walks(generator):
    """Movies whose molecules turn by `STEP` a frame along each axis, of different lengths, in any order of rows."""
    rotations, movie, frame = [], [], []
    for m, first in enumerate(random_rotations(MOVIES, generator)):
        for t in range(FRAMES - m % 3):
            first = matrix_from_rotvec(STEP * torch.randn(3, generator=generator)) @ first
            rotations.append(first)
            movie.append(m)
            frame.append(2 * t if m % 2 else t)
    # Every second movie lacks every second frame: its steps are of two frames, and as long as if of one.
    order = torch.randperm(len(movie), generator=generator)
    return torch.stack(rotations)[order], torch.tensor(movie)[order], torch.tensor(frame)[order]


def _noisy(true, generator):
    return matrix_from_rotvec(ERROR * torch.randn(len(true), 3, generator=generator)) @ true


def test_tumbling_is_found_beside_errors_and_lost_frames(walks, generator):
    true, movie, frame = walks
    even = movie % 2 == 0
    true, grid = true[even], MovieGrid.of(movie[even], frame[even])
    found = _noisy(true, generator)
    lost = torch.rand(len(found), generator=generator) < 0.15
    found[lost] = random_rotations(int(lost.sum()), generator)
    assert tumbling(found, grid) == pytest.approx(STEP, rel=0.3)


def test_tumbling_after_a_gap_is_that_of_all_its_frames(walks):
    true, movie, frame = walks
    odd = movie % 2 == 1
    found = tumbling(true[odd], MovieGrid.of(movie[odd], frame[odd]))
    assert found == pytest.approx(STEP / math.sqrt(2), rel=0.2)


def test_frames_from_anywhere_tell_no_tumbling(walks, generator):
    _, movie, frame = walks
    assert tumbling(random_rotations(len(movie), generator), MovieGrid.of(movie, frame)) == math.inf


def test_single_frames_tell_no_tumbling(generator):
    grid = MovieGrid.of(torch.arange(5), torch.zeros(5, dtype=torch.long))
    assert tumbling(random_rotations(5, generator), grid) == math.inf


def test_frames_beside_are_of_the_same_movie_and_the_own_one_comes_first(walks):
    true, movie, frame = walks
    near = beside(true, MovieGrid.of(movie, frame))
    assert torch.equal(near[:, 0], true)
    row = int(torch.nonzero((movie == 0) & (frame == 3))[0])
    wanted = [true[(movie == 0) & (frame == t)][0] for t in (2, 4, 1, 5)]
    assert all(any(torch.equal(w, n) for n in near[row, 1:]) for w in wanted)


def test_a_movie_tells_which_of_two_modes_is_right(walks, generator):
    true, movie, frame = walks
    modes = torch.stack([random_rotations(len(true), generator), true], 1)
    log_weight = torch.zeros(len(true), 2)
    # A quarter of the frames prefer the wrong mode, by as much as e³.
    log_weight[torch.rand(len(true), generator=generator) < 0.25, 0] = 3.0
    posterior = along_movies(log_weight, modes, MovieGrid.of(movie, frame), STEP)
    assert torch.allclose(posterior.sum(1), torch.ones(len(true)))
    assert float((posterior[:, 1] > 0.5).float().mean()) > 0.98


def test_forward_and_backward_make_the_posterior_of_all_paths(generator):
    rotation, log_weight = random_rotations(6, generator).view(3, 2, 3, 3), torch.randn(3, 2, generator=generator)
    grid = MovieGrid.of(torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 4]))
    found = along_movies(log_weight, rotation, grid, 1.0)
    total = torch.zeros(3, 2)
    for path in torch.cartesian_prod(*(torch.arange(2),) * 3):
        at = rotation[torch.arange(3), path]
        angles = torch.deg2rad(angular_distance(at[1:], at[:-1])).square() / torch.tensor([1.0, 3.0])
        weight = (log_weight[torch.arange(3), path].sum() - angles.sum() / 2).exp()
        total[torch.arange(3), path] += weight
    assert torch.allclose(found, total / total.sum(1, keepdim=True), atol=1e-4)


def test_frames_draw_each_other_nearer_to_the_truth(walks, generator):
    true, movie, frame = walks
    even = movie % 2 == 0
    true, grid = true[even], MovieGrid.of(movie[even], frame[even])
    found = _noisy(true, generator)
    covariance = (ERROR**2 * torch.eye(3)).repeat(len(true), 1, 1)
    drawn, left = drawn_together(found, covariance, grid, STEP)
    before, after = (torch.deg2rad(angular_distance(r, true)).square().mean() for r in (found, drawn))
    expected = float(left.diagonal(dim1=1, dim2=2).sum(1).mean())
    assert float(after) < 0.85 * float(before)
    assert float(after) == pytest.approx(expected, rel=0.15)


def test_frames_that_nothing_joins_stay_where_they_are(walks, generator):
    true, movie, frame = walks
    covariance = (ERROR**2 * torch.eye(3)).repeat(len(true), 1, 1)
    drawn, left = drawn_together(true, covariance, MovieGrid.of(movie, frame), 3.0)
    assert float(angular_distance(drawn, true).max()) < 0.1
    assert torch.allclose(left, covariance, rtol=2e-3, atol=1e-5)
