"""Noise is drawn with the spectrum that it is then measured to have."""

import pytest
import torch

from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.noise import draw_noise, radial_power


@pytest.mark.parametrize(
    "spectrum",
    [torch.ones(16), 4 * torch.ones(16), torch.linspace(3, 0.5, 16), 1 + torch.arange(16.0)],
    ids=["white", "strong", "falling", "rising"],
)
def test_drawn_spectrum_is_measured_back(spectrum, generator):
    noise = draw_noise(800, spectrum, 32, generator)
    lattice = FrequencyLattice.of_box(32)
    # A shell holds frequencies on both sides of its radius.
    expected = lattice.shell_mean(lattice.from_shells(spectrum))
    assert torch.allclose(radial_power(noise)[1:], expected[1:], rtol=0.1)


def test_white_noise_has_unit_variance_and_zero_mean(generator):
    noise = draw_noise(500, torch.ones(16), 32, generator)
    assert float(noise.var()) == pytest.approx(1, abs=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)


def test_the_generator_decides(generator):
    first = draw_noise(2, torch.ones(8), 16, torch.Generator().manual_seed(5))
    assert torch.equal(first, draw_noise(2, torch.ones(8), 16, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, draw_noise(2, torch.ones(8), 16, generator))
