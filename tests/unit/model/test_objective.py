"""The data term is the sum of squares that it stands for."""

import pytest
import torch

from cryoloom.model.batch import Batch
from cryoloom.model.coefficients import DrawnCoefficients
from cryoloom.model.objective import SCALE_PRIOR, image_scale, least_misfit
from cryoloom.physics.fourier import shift_phases


def by_hand(planted, slices, shift):
    """Σ |C · phase · F − y|² / σ² without the origin, (B, K)."""
    phases = shift_phases(planted.lattice.k, shift, planted.lattice.box)
    model = planted.ctf[:, None] * phases * slices
    return (((model - planted.spectrum[:, None]).abs() ** 2) / planted.noise)[..., 1:].sum(-1)


def hypotheses(planted, generator):
    slices = planted.projector.project(planted.rotation, planted.lattice)[:, None]
    wrong = slices.roll(1, 0)
    shift = torch.stack([torch.zeros_like(planted.shift), planted.shift], 1)
    return torch.cat([wrong, slices], 1), shift


def test_least_squares_over_hypotheses(plant, generator):
    planted = plant(5, snr=1.0)
    slices, shift = hypotheses(planted, generator)
    expected = by_hand(planted, slices, shift)
    found = least_misfit(slices, shift, planted.evidence)
    assert torch.allclose(found.total, expected.min(1).values, rtol=1e-4)
    assert torch.equal(found.best, expected.argmin(1))
    assert torch.allclose(found.by_coefficient.sum(1), found.total, rtol=1e-4)
    assert (found.by_coefficient[:, 0] == 0).all()


def test_gradients_of_slices_and_shifts(plant, generator):
    planted = plant(3, snr=1.0)
    slices, shift = hypotheses(planted, generator)
    slices.requires_grad_(), shift.requires_grad_()
    found = torch.autograd.grad(least_misfit(slices, shift, planted.evidence).total.sum(), (slices, shift))
    wanted = torch.autograd.grad(by_hand(planted, slices, shift).min(1).values.sum(), (slices, shift))
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_a_scale_of_its_own_for_every_image(plant, generator):
    """Images that are a tenth too bright fit better, and the scale found is the best there is."""
    planted = plant(4, snr=10.0)
    slices = planted.projector.project(planted.rotation, planted.lattice)[:, None] / 1.1
    shift = planted.shift[:, None]
    plain, scaled = (least_misfit(slices, shift, planted.evidence, scaled=s).total for s in (False, True))
    assert (scaled < plain).all()
    moved, power = planted.evidence.centred(shift), planted.evidence.power[:, None]
    scale = image_scale(slices, moved, power)
    assert torch.allclose(scale, torch.tensor(1.1), atol=0.05)
    for wrong in (0.98, 1.02):
        price = [
            least_misfit(slices * a, shift, planted.evidence).total + SCALE_PRIOR * (a[:, 0, 0] - 1) ** 2
            for a in (scale, wrong * scale)
        ]
        assert (price[0] < price[1]).all()


@pytest.mark.parametrize("part", [0.2, 0.6, 1.0])
def test_drawn_coefficients_stand_for_all(plant, generator, part):
    """As many in every draw, those of low frequency in all of them, and in the mean over draws nothing is changed."""
    planted = plant(4, snr=1.0)
    lattice = planted.lattice
    count, seen = set(), torch.zeros(len(lattice))
    draws = 4000
    for _ in range(draws):
        kept, weight = DrawnCoefficients.of(lattice.radius, part, generator)
        assert kept[0] == 0
        assert (kept.diff() > 0).all()
        count.add(len(kept))
        seen[kept] += weight / draws
    assert max(count) - min(count) <= 1
    assert abs(sum(count) / len(count) - part * len(lattice)) < 2
    assert (seen[lattice.radius <= 1] - 1).abs().max() < 1e-3
    assert (seen - 1).abs().max() < 0.25
    assert abs(float(seen.mean()) - 1) < 0.01


def test_the_misfit_of_drawn_coefficients_is_that_of_all_in_the_mean(plant, generator):
    planted = plant(6, snr=1.0)
    slices = planted.projector.project(planted.rotation, planted.lattice)[:, None]
    batch = Batch(torch.arange(6), planted.spectrum, planted.evidence)
    whole = least_misfit(0 * slices, planted.shift[:, None], planted.evidence).total
    thinned = []
    for _ in range(600):
        drawn = DrawnCoefficients.of(planted.lattice.radius, 0.4, generator)
        few = batch.thinned(*drawn)
        assert few.spectrum.shape == few.evidence.power.shape == (6, len(few.lattice)) == (6, len(drawn.kept))
        thinned.append(least_misfit(0 * slices[..., drawn.kept], planted.shift[:, None], few.evidence).total)
    assert torch.allclose(torch.stack(thinned).mean(0), whole, rtol=0.05)
    assert torch.stack(thinned).std(0).min() > 0
