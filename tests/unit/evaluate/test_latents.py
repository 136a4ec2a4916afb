"""Numbers on latents, on sets for which they are known."""

import itertools

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.evaluate.coordinate import likeliest_volumes
from cryoloom.evaluate.latents import (
    adjusted_mutual_information,
    adjusted_rand_index,
    area_under_roc,
    conformation_correlation,
    fsc_area,
    information_imbalance,
    neighbour_accuracy,
)
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_correlation_is_of_the_direction_that_varies_most(random):
    truth = random.uniform(size=500)
    bent = np.stack([-np.exp(3 * truth), 0.1 * random.normal(size=500)], 1) @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    assert conformation_correlation(bent, truth) > 0.999
    assert conformation_correlation(random.normal(size=(500, 3)), truth) < 0.15
    assert conformation_correlation(np.zeros((500, 2)), truth) == 0


def test_neighbours_along_a_line_and_in_states(random):
    truth = random.uniform(size=1000)
    assert neighbour_accuracy(truth[:, None], truth) == 1
    # Of a thousand, k = 10 neighbours on either side lie within the k-th distance: about k / N by chance.
    assert neighbour_accuracy(random.normal(size=(1000, 2)), truth) == pytest.approx(0.01, abs=0.005)
    states = random.integers(3, size=300).astype(float)
    apart = states[:, None] * 10 + random.normal(size=(300, 2))
    assert neighbour_accuracy(apart, states) == 1
    assert neighbour_accuracy(random.normal(size=(300, 2)), states) == pytest.approx(1 / 3, abs=0.06)
    assert neighbour_accuracy(np.zeros((300, 1)), states) < 0.6


def test_information_is_lost_one_way(random):
    a = random.normal(size=(400, 1))
    both = np.concatenate([a, random.normal(size=(400, 1))], 1)
    assert information_imbalance(a, a) < 0.01
    assert information_imbalance(both, a[:, 0]) < 0.2 < 0.4 < information_imbalance(a[:, 0], both)
    assert information_imbalance(random.normal(size=400), a) == pytest.approx(1, abs=0.1)


def test_area_under_an_fsc():
    assert fsc_area(np.ones(24)) == pytest.approx(0.5, rel=0.05)
    half = np.where(np.arange(24) < 12, 1.0, 0.0)
    half[0] = -1
    assert fsc_area(half) == pytest.approx(0.24, abs=0.01)


def test_area_under_roc():
    score = np.array([0.1, 0.2, 0.2, 0.9])
    assert area_under_roc(score, np.array([False, False, True, True])) == pytest.approx(0.875)


def test_groups_agree_by_more_than_chance(random):
    truth = random.integers(3, size=600)
    assert adjusted_rand_index((truth + 1) % 3, truth) == 1
    assert adjusted_rand_index(random.integers(3, size=600), truth) == pytest.approx(0, abs=0.02)
    # Of 15 pairs each grouping has 4 together, and both the same 2 of them; 16/15 would be chance.
    one, other = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 2, 2])
    assert adjusted_rand_index(one, other) == pytest.approx((2 - 4 * 4 / 15) / (4 - 4 * 4 / 15))


def test_groups_inform_of_each_other_by_more_than_chance(random):
    truth = random.integers(3, size=300)
    assert adjusted_mutual_information((truth + 1) % 3, truth) == pytest.approx(1)
    assert adjusted_mutual_information(random.integers(3, size=300), truth) == pytest.approx(0, abs=0.02)
    one, other = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 2, 2])
    plain = [_mutual(one, order) for order in set(itertools.permutations(other.tolist()))]
    entropy = _mutual(one, one)
    expected = (_mutual(one, other) - np.mean(plain)) / (entropy - np.mean(plain))
    assert adjusted_mutual_information(one, other) == pytest.approx(expected)


def _mutual(a, b) -> float:
    b, total = np.array(b), 0.0
    for i, j in itertools.product(range(3), range(3)):
        p = np.mean((a == i) & (b == j))
        total += p * np.log(p / (np.mean(a == i) * np.mean(b == j))) if p else 0.0
    return total


def test_the_likeliest_conformation_is_the_true_one_where_noise_allows(blob_map, tmp_path):
    weights = torch.linspace(0, 1, 6)
    other = blob_map.roll(3, 2)
    volumes = [(1 - w) * blob_map + w * other for w in weights]
    settings = Simulation(box=32, pixel_size=3.0, particles=200, snr=0.5, shift=2.0, seed=0)
    simulate_particles(Conformations.of_volumes(volumes), settings, tmp_path)
    true = read_particles(tmp_path / "truth" / "particles.star")
    found = likeliest_volumes(true, true.poses(), lambda k: volumes[k], 6).numpy()
    which = true.column("conformation").astype(int)
    assert (np.abs(found - which) <= 1).mean() > 0.9
    assert conformation_correlation(found[:, None].astype(float), which.astype(float)) > 0.9
