"""What is believed of a conformation: its price, a table of it, and where it settles at a field that is known."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.latent import Latent
from cryoloom.model.conformation.settle import settle, signal_sigma
from cryoloom.model.conformation.table import ConformationTable
from cryoloom.model.poses.evidence import Evidence
from cryoloom.solve.descent import optimiser_of


def test_the_price_is_the_divergence_from_a_standard_normal(generator):
    mean, log_var = torch.randn(50, 3, generator=generator), torch.randn(50, 3, generator=generator)
    latent = Latent.drawn(mean, log_var, torch.zeros(50, 3))
    believed = Independent(Normal(mean, (0.5 * log_var).exp()), 1)
    standard = Independent(Normal(torch.zeros(50, 3), torch.ones(50, 3)), 1)
    assert torch.allclose(latent.kl, kl_divergence(believed, standard), atol=1e-5)
    assert torch.equal(latent.z, mean)


def test_draws_have_the_mean_and_the_width_that_are_believed(generator):
    mean, log_var = torch.tensor([[0.5, -1.0]]), torch.tensor([[-2.0, 0.3]])
    drawn = Latent.drawn(mean, log_var, torch.randn(20_000, 2, generator=generator)).z
    assert torch.allclose(drawn.mean(0), mean[0], atol=0.03)
    assert torch.allclose(drawn.var(0), log_var[0].exp(), rtol=0.05)


def test_a_step_moves_only_the_conformations_of_its_batch(plant, generator):
    planted, table = plant(3, snr=1.0), ConformationTable(9, 2, generator)
    before = table.rows.weight.detach().clone()
    batch = Batch(torch.tensor([8, 0, 3]), planted.spectrum, planted.evidence)
    latent = table(batch, torch.ones(3, 2))
    assert torch.equal(latent.mean, before[[8, 0, 3], :2])
    optimiser = optimiser_of(table)
    (latent.z.sum() + latent.kl.sum()).backward()
    optimiser.step()
    moved = (table.rows.weight != before).any(1).nonzero()[:, 0]
    assert moved.tolist() == [0, 3, 8]


class Opening(NamedTuple):
    """Images of slices F₀ + sin(z₁) F₁ + (0.3 z₁² + 0.5 z₂) F₂ at conformations z (B, 2), as evidence."""

    parts: list[Tensor]
    z: Tensor
    evidence: Evidence

    def render(self, z: Tensor) -> Tensor:
        """Slices (B, P) of conformations (B, 2)."""
        bent = 0.3 * z[:, :1] ** 2 + 0.5 * z[:, 1:]
        return self.parts[0] + torch.sin(z[:, :1]) * self.parts[1] + bent * self.parts[2]


@pytest.fixture
def opening(plant) -> Opening:
    planted = plant(24, snr=2.0, shift=torch.zeros(24, 2))
    generator = torch.Generator().manual_seed(5)
    base = planted.projector.project(planted.rotation, planted.lattice)
    z = torch.randn(24, 2, generator=generator).clamp(-1.4, 1.4)
    made = Opening([base, base.roll(1, 0), base.roll(2, 0)], z, planted.evidence)
    noise = torch.randn(base.shape, generator=generator, dtype=torch.complex64) * planted.noise.sqrt()
    images = planted.ctf * made.render(z) + noise
    return made._replace(evidence=Evidence.of_images(images, planted.ctf, planted.noise, planted.lattice))


def test_conformations_settle_where_the_images_are_best_explained(opening, generator):
    shift, candidates = torch.zeros(24, 2), torch.randn(24, 6, 2, generator=generator)
    found = settle(opening.render, opening.evidence, shift, candidates, beta=1.0, steps=6)
    sigma = (0.5 * found.log_var).exp()
    # The widths are honest: errors are about as large as they say.
    assert 0.3 < float(((found.mean - opening.z).abs() / sigma).median()) < 1.4
    assert float(sigma.median()) < 0.3
    unmoved = settle(opening.render, opening.evidence, shift, candidates[:, :1], beta=1.0, steps=0).mean
    assert torch.equal(unmoved, candidates[:, 0])
    assert float((found.mean - opening.z).abs().median()) < 0.3 * float((unmoved - opening.z).abs().median())


def test_a_strong_prior_holds_conformations_at_zero(opening, generator):
    shift, candidates = torch.zeros(24, 2), torch.randn(24, 2, 2, generator=generator)
    found = settle(opening.render, opening.evidence, shift, candidates, beta=1e6, steps=8)
    assert float(found.mean.abs().max()) < 0.02
    assert torch.allclose(found.log_var.exp(), torch.full((24, 2), 1e-6), rtol=0.05)


def test_pure_noise_does_not_agree_with_any_slice(plant):
    planted = plant(64, snr=1.0)
    slices = planted.projector.project(planted.rotation, planted.lattice)
    assert float(signal_sigma(slices, planted.evidence, planted.shift).min()) > 4
    noise = torch.randn(slices.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    empty = Evidence.of_images(noise * planted.noise.sqrt(), planted.ctf, planted.noise, planted.lattice)
    none = signal_sigma(slices, empty, planted.shift)
    assert abs(float(none.mean())) < 0.4
    assert 0.8 < float(none.std()) < 1.2


def test_the_divergence_of_two_gaussians_is_theirs(generator):
    one, other = (Latent.drawn(*torch.randn(3, 4, 2, generator=generator)) for _ in range(2))
    normals = [Independent(Normal(x.mean, (0.5 * x.log_var).exp()), 1) for x in (one, other)]
    assert torch.allclose(one.divergence(other), kl_divergence(*normals), atol=1e-5)
