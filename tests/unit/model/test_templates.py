"""Soft assignment against brute force: every image, every shift, every rotation, one at a time."""

import pytest
import torch

from cryoloom.model.poses import templates as module
from cryoloom.model.poses.shifts import ShiftBasis
from cryoloom.model.poses.templates import posterior_sums


def exactly(shifts, images):
    return ShiftBasis.of_shifts(shifts, images.lattice, tolerance=1e-6)


@pytest.mark.parametrize("temper", [1.0, 0.3])
def test_posterior_sums_are_the_sums_over_a_softmax(few, temper, monkeypatch):
    images, templates, shifts, log_prior, scores = few
    # Small chunks: an image's posterior must not depend on its neighbours.
    monkeypatch.setattr(module, "SCORES_PER_CHUNK", 2 * len(shifts) * len(templates))
    evidence = images.evidence
    found = posterior_sums(templates, evidence, exactly(shifts, images), log_prior, temper)
    weight = torch.softmax((temper * scores.double()).flatten(1), 1).view(scores.shape).float()
    moved = evidence.centred(shifts.expand(6, -1, 2))
    expected = torch.einsum("bsg,bsp->gp", weight + 0j, moved)
    pairs = torch.view_as_complex(found.pairs.view(len(templates), -1, 2))
    assert (pairs - expected).norm() < 2e-3 * expected.norm()
    power = torch.einsum("bsg,bp->gp", weight, evidence.power)
    assert (found.power - power).norm() < 2e-3 * power.norm()
    assert float(found.peak) == pytest.approx(float(weight.flatten(1).amax(1).sum()), rel=2e-3)


def test_every_image_counts_once(few):
    images, templates, shifts, log_prior, _ = few
    evidence = images.evidence
    found = posterior_sums(templates, evidence, exactly(shifts, images), log_prior)
    assert torch.allclose(found.power.sum(0), evidence.power.sum(0), rtol=1e-4)


def test_log_evidence_is_the_log_sum_over_poses(few):
    images, templates, shifts, log_prior, scores = few
    found = posterior_sums(templates, images.evidence, exactly(shifts, images), log_prior)
    per_image = torch.logsumexp(scores.double().flatten(1), 1) - images.evidence.image_power.sum(1)
    assert found.log_evidence.tolist() == pytest.approx(
        [float(per_image.sum()), float(per_image.square().sum())], rel=1e-3
    )


def test_templates_know_their_power(few):
    _, templates, _, _, _ = few
    assert torch.allclose(templates.power, templates.pairs.view(20, -1, 2).square().sum(-1), rtol=1e-4)
