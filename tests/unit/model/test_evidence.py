"""The sufficient statistics of an image give the Gaussian likelihood of any pose."""

import pytest
import torch

from cryoloom.model.poses.evidence import real_pairs
from cryoloom.physics.so3 import random_rotations


def test_score_is_the_gaussian_log_likelihood(plant, generator):
    images = plant(6, snr=0.5)
    evidence = images.evidence
    rotation, shift = random_rotations(6, generator), torch.randn(6, 2, generator=generator)
    template = images.projector.project(rotation, images.lattice)
    moved = evidence.centred(shift)
    score = 2 * (moved.conj() * template).real.sum(1) - (evidence.power * template.abs() ** 2).sum(1)
    expected = [images.score(i, rotation[i], shift[i]) for i in range(6)]
    assert score.tolist() == pytest.approx(expected, rel=1e-3, abs=0.05)


def test_the_true_pose_explains_a_clean_image_in_full(plant):
    images = plant(4, snr=1e6)
    for i in range(4):
        everything = float((images.spectrum[i].abs() ** 2 / images.noise).double().sum())
        assert images.score(i, images.rotation[i], images.shift[i]) == pytest.approx(everything, rel=1e-5)


def test_centred_takes_every_hypothesis(plant, generator):
    evidence = plant(3, snr=1.0).evidence
    shift = torch.randn(3, 4, 2, generator=generator)
    together = evidence.centred(shift)
    assert together.shape == (3, 4, len(evidence.lattice))
    for k in range(4):
        assert torch.allclose(together[:, k], evidence.centred(shift[:, k]), rtol=1e-4, atol=1e-4)


def test_prefix_and_select_keep_the_right_coefficients_and_rows(plant):
    evidence = plant(5, snr=1.0).evidence
    low = evidence.prefix(5.0)
    assert float(low.lattice.radius.max()) <= 5.0
    assert float(evidence.lattice.radius[len(low.lattice)]) > 5.0
    for whole, part in zip(evidence[:3], low[:3], strict=True):
        assert torch.equal(part, whole[:, : len(low.lattice)])
    picked = evidence.select(torch.tensor([4, 0]))
    assert len(picked) == 2
    assert torch.equal(picked.weighted, evidence.weighted[[4, 0]])


def test_real_pairs_turn_the_real_inner_product_into_a_dot_product(generator):
    a, b = torch.randn(2, 7, dtype=torch.complex64, generator=generator)
    assert float(real_pairs(a) @ real_pairs(b)) == pytest.approx(float((a.conj() * b).real.sum()), rel=1e-5)
