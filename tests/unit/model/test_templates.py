"""Soft assignment against brute force: every image, every shift, every rotation, one at a time."""

import pytest
import torch

from cryoloom.model.poses import templates as module
from cryoloom.model.poses.evidence import Evidence, real_pairs
from cryoloom.model.poses.shifts import ShiftBasis, shift_disc, shift_log_prior
from cryoloom.model.poses.templates import Templates, posterior_sums, reduced_precision
from cryoloom.physics.fourier import FrequencyLattice


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
    assert float(found.log_evidence) == pytest.approx(float(per_image.sum()), rel=1e-3)


def test_templates_know_their_power(few):
    _, templates, _, _, _ = few
    assert torch.allclose(templates.power, templates.pairs.view(20, -1, 2).square().sum(-1), rtol=1e-4)


def test_what_all_templates_share_does_not_round_the_posterior(generator):
    lattice = FrequencyLattice.of_box(32).prefix(6.0)
    g, n = 30, 8

    def spectra(count: int, size: float) -> torch.Tensor:
        return size * torch.randn(count, len(lattice), generator=generator, dtype=torch.complex64)

    # 400 times the power of what sets the templates apart: rounded to 8 bits it would drown that.
    slices = spectra(1, 20.0) + spectra(g, 1.0)
    images = slices[:n] + spectra(n, 1.0)
    templates = Templates(torch.eye(3).expand(g, 3, 3), real_pairs(slices), slices.abs() ** 2, lattice)
    evidence = Evidence.of_images(images, torch.ones(images.shape), torch.full((len(lattice),), 40.0), lattice)
    shifts = shift_disc(1.0, 0.5)
    log_prior = shift_log_prior(shifts, 1.0)
    found = posterior_sums(templates, evidence, ShiftBasis.of_shifts(shifts, lattice, 1e-6), log_prior)
    moved = evidence.centred(shifts.expand(n, -1, 2)).to(torch.complex128)
    cross = 2 * torch.einsum("bsp,gp->bsg", moved, slices.conj().to(torch.complex128)).real
    logits = cross - (evidence.power @ templates.power.T).double()[:, None] + log_prior.double()[:, None]
    weight = torch.softmax(logits.flatten(1), 1).view(logits.shape)
    assert 0.2 < float(weight.flatten(1).amax(1).mean()) < 0.98
    expected = torch.einsum("bsg,bsp->gp", weight + 0j, moved)
    pairs = torch.view_as_complex(found.pairs.view(g, -1, 2))
    assert (pairs - expected).norm() < 0.02 * expected.norm()
    power = torch.einsum("bsg,bp->gp", weight, evidence.power.double())
    assert (found.power - power).norm() < 0.02 * power.norm()
    assert float(found.peak) == pytest.approx(float(weight.flatten(1).amax(1).sum()), rel=0.02)


def test_reduced_precision_ends_with_what_it_is_for():
    before = torch.get_float32_matmul_precision()
    with reduced_precision():
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before
