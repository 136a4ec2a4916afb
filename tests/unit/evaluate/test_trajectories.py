"""Rates of latents through movies, on processes for which they are known."""

import math

import numpy as np
import pytest

from cryoloom.evaluate.trajectories import Trajectory, rates, trajectories

SIGMA, RELAXATION, NOISE = 0.8, 6.0, 0.3


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def fluctuating(random) -> list[Trajectory]:
    """600 movies of 40 frames of an Ornstein–Uhlenbeck process, every fourth frame missing at random, with noise."""
    keep, made = math.exp(-1 / RELAXATION), []
    for _ in range(600):
        x = np.empty(40)
        x[0] = random.normal()
        for t in range(1, 40):
            x[t] = keep * x[t - 1] + math.sqrt(1 - keep**2) * random.normal()
        there = np.sort(random.choice(40, 30, replace=False))
        seen = SIGMA * x[there] + NOISE * random.normal(size=30)
        made.append(Trajectory(there, seen, np.full(30, NOISE)))
    return made


def test_diffusion_relaxation_and_noise_are_those_of_the_process(fluctuating):
    found = rates(fluctuating)
    assert found.relaxation == pytest.approx(RELAXATION, rel=0.15)
    assert found.variance == pytest.approx(SIGMA**2, rel=0.1)
    assert found.noise == pytest.approx(NOISE**2, rel=0.2)
    assert found.diffusion == pytest.approx(SIGMA**2 / RELAXATION, rel=0.12)
    assert abs(found.drift) < 0.02


def test_drift_and_dwell_of_a_square_wave():
    frame = np.arange(24)
    wave = [Trajectory(frame, np.where((frame + 3 * i) // 6 % 2 == 0, 1.0, -1.0), np.zeros(24)) for i in range(4)]
    assert rates(wave).dwell == pytest.approx(6, rel=0.2)
    ramp = [Trajectory(2 * frame, 0.5 * frame, np.zeros(24)) for _ in range(3)]
    assert rates(ramp).drift == pytest.approx(0.25)
    assert math.isinf(rates([Trajectory(frame, np.zeros(24), np.zeros(24))]).dwell)


def test_drift_is_no_diffusion(random):
    frame = np.arange(12)
    driven = [Trajectory(frame, 0.2 * frame + 0.05 * random.normal(size=12), np.zeros(12)) for _ in range(80)]
    found = rates(driven)
    assert found.drift == pytest.approx(0.2, abs=0.01)
    # What is left is the noise of single frames, at every lag alike.
    assert found.displacement == pytest.approx(2 * 0.05**2, rel=0.35)


def test_short_movies_have_no_relaxation():
    short = [Trajectory(np.arange(2), np.array([0.0, 1.0]), np.zeros(2)) for _ in range(30)]
    found = rates(short)
    assert found.lags.tolist() == [1]
    assert math.isnan(found.diffusion)
    assert found.drift == 1


def test_trajectories_follow_the_direction_in_which_latents_vary_most(random):
    along = random.normal(size=60)
    z = np.outer(along, [0.6, 0.8, 0]) + 1e-3 * random.normal(size=(60, 3))
    log_var = np.log(np.tile([0.01, 0.04, 9.0], (60, 1)))
    rows = np.array([5, 2, 40])
    found = trajectories(z, log_var, np.arange(60), {"a": rows})["a"]
    assert abs(np.corrcoef(found.mean, along[rows])[0, 1]) > 0.999
    assert found.sigma == pytest.approx(math.sqrt(0.36 * 0.01 + 0.64 * 0.04), rel=0.02)
    assert found.frame.tolist() == rows.tolist()
