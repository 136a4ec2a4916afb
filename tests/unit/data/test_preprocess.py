"""Normalisation, windows, the noise spectrum, the sign of the contrast, and the checks that info shows."""

from pathlib import Path

import pytest
import torch

from cryoloom.cli.info import contrast
from cryoloom.data import Particles, read_particles, write_stack
from cryoloom.data.checks import check_images, findings
from cryoloom.data.preprocess import (
    Scale,
    measure_scale,
    normalise,
    radial_noise_spectrum,
    soft_circle,
)
from cryoloom.errors import InputError
from cryoloom.physics.ctf import CTFParameters, ctf
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.solve.em.spherical import contrast_sign

BOX, N, PIXEL = 32, 60, 4.0


def test_normalise_sets_the_background(images: torch.Tensor) -> None:
    raw = 3 * torch.randn(5, 32, 32) + 7
    raw[:, 12:20, 12:20] += 50
    done = normalise(raw, 12)
    axis = torch.arange(32.0) - 16
    outside = torch.hypot(axis[:, None], axis[None]) > 12
    torch.testing.assert_close(done[:, outside].mean(-1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(done[:, outside].std(-1), torch.ones(5))
    assert normalise(torch.ones(1, 8, 8), 2).abs().max() == 0
    with pytest.raises(InputError, match="no background"):
        normalise(raw, 30)


def test_images_without_noise_share_one_scale(tmp_path: Path) -> None:
    """Their background is ringing, whose size follows the defocus and not the dose."""
    clean = _simulated(tmp_path, 1, 0.0, True)
    scale = measure_scale(clean, 0.45 * BOX)
    whole = float(clean.images(torch.arange(N)).flatten(1).var(1).mean().sqrt())
    assert scale == Scale(pytest.approx(whole, rel=1e-4), 0.0, 0.0, clean=True)
    assert not measure_scale(_simulated(tmp_path, 1, 0.7, True), 0.45 * BOX).clean


@pytest.mark.parametrize(("gains", "trust"), [((1.0, 1.0), 0.0), ((0.5, 2.0), 1.0)])
def test_images_are_scaled_one_by_one_only_where_they_differ(tmp_path: Path, gains, trust) -> None:
    """The deviation of a few pixels scatters by chance, and must not become what differs most between images."""
    particles = _simulated(tmp_path, 1, 3.0, True)
    images = particles.images(torch.arange(N)) * torch.tensor(gains).repeat(N // 2)[:, None, None]
    write_stack(tmp_path / "s.mrcs", [images], N, BOX, PIXEL)
    scale = measure_scale(read_particles(tmp_path / "s.mrcs"), 0.45 * BOX)
    assert scale.trust == pytest.approx(trust, abs=0.35 if trust == 0 else 0.05)
    done = normalise(images, 0.45 * BOX, scale).flatten(1).std(1)
    alone = normalise(images, 0.45 * BOX).flatten(1).std(1)
    assert float(done.std() / done.mean()) < (0.75 if trust == 0 else 1.05) * float(alone.std() / alone.mean())


@pytest.mark.parametrize(("slope", "trust"), [(0.0, 0.0), (2.0, 1.0)])
def test_backgrounds_are_levelled_only_where_they_are_tilted(tmp_path: Path, slope: float, trust: float) -> None:
    """The slope of a few noisy pixels is chance, and taking it off gives every image a slope of its own."""
    g = torch.Generator().manual_seed(3)
    noise = torch.randn(N, BOX, BOX, generator=g)
    tilts = slope * torch.randn(N, 2, generator=g)
    axis = torch.linspace(-1, 1, BOX)
    images = noise + tilts[:, :1, None] * axis[:, None] + tilts[:, 1:, None] * axis
    write_stack(tmp_path / "s.mrcs", [images], N, BOX, PIXEL)
    scale = measure_scale(read_particles(tmp_path / "s.mrcs"), 0.45 * BOX)
    assert scale.tilt == pytest.approx(trust, abs=0.25 if trust == 0 else 0.05)
    left = (normalise(images, 0.45 * BOX, scale) - noise) * axis
    assert float(left.sum((1, 2)).std() / (BOX * axis.square().sum())) < 0.1


def test_soft_circle() -> None:
    window = soft_circle(32, 8, 4)
    assert window[16, 16] == window[16, 24] == 1
    assert window[16, 26] == pytest.approx(0.5)
    assert window[16, 28] == window[0, 0] == 0


def _simulated(folder: Path, sign: float, noise: float, with_ctf: bool) -> Particles:
    """Particles y = sign · C · slice of a round white molecule off the centre, and noise."""
    generator = torch.Generator().manual_seed(0)
    lattice = FrequencyLattice.of_box(BOX)
    axis = torch.arange(float(BOX)) - BOX // 2
    blob = torch.exp(-((axis[:, None] - 2) ** 2 + (axis[None, :] + 1) ** 2) / 40)
    n = torch.full((N,), 1.0)
    defocus = torch.linspace(5000, 25000, N)
    parameters = CTFParameters(defocus, defocus, 0 * n, 300 * n, 2.7 * n, 0.1 * n, 0 * n, 0 * n)
    transfer = ctf(parameters, lattice.k / (BOX * PIXEL)) if with_ctf else torch.ones(N, len(lattice))
    images = sign * lattice.images(lattice.spectrum(blob) * transfer)
    images = images + noise * torch.randn(images.shape, generator=generator)
    write_stack(folder / "s.mrcs", [images], N, BOX, PIXEL)
    columns = {name: value for name, value in parameters._asdict().items() if with_ctf}
    return read_particles(folder / "s.mrcs").with_columns(**columns)


@pytest.mark.parametrize("with_ctf", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_contrast_sign_of_noisy_simulations(tmp_path: Path, sign: int, with_ctf: bool) -> None:
    particles = _simulated(tmp_path, sign, 0.7, with_ctf)
    assert contrast_sign(particles)[0] == sign
    texts = [contrast(particles).text]
    white = (sign == -1) if with_ctf else (sign == 1)
    assert any(("white" if white else "black") in text for text in texts)


def test_contrast_of_pure_noise_is_undecided(tmp_path: Path) -> None:
    assert contrast_sign(_simulated(tmp_path, 0, 1.0, True))[0] == 0


def test_noise_spectrum_of_white_noise_is_flat_and_ignores_the_particle(tmp_path: Path) -> None:
    particles = _simulated(tmp_path, 1, 2.0, False)
    spectrum = radial_noise_spectrum(particles, radius_px=12)
    assert spectrum.shape == (BOX // 2,)
    torch.testing.assert_close(spectrum / BOX**2, torch.full((BOX // 2,), 4.0), rtol=0.15, atol=0)


@pytest.mark.parametrize(("value", "reason"), [(float("nan"), "not finite"), (0.0, "one value in every pixel")])
def test_broken_images_are_named(tmp_path: Path, value: float, reason: str) -> None:
    images = torch.randn(20, 8, 8)
    images[13] = value
    write_stack(tmp_path / "s.mrcs", [images], 20, 8, 2.0)
    particles = read_particles(tmp_path / "s.mrcs")
    with pytest.raises(InputError, match=rf"particle 14: image 14 of .*s\.mrcs .*{reason}"):
        check_images(particles)
    check_images(particles.subset(slice(0, 13)))
    assert any(finding.serious and reason in finding.text for finding in findings(particles))


def test_doubtful_numbers_are_noticed(tmp_path: Path) -> None:
    particles = _simulated(tmp_path, 1, 0.5, True)
    small = particles.with_columns(defocus_u=1.5, defocus_v=1.4)
    assert any("µm" in finding.text for finding in findings(small))
    over = particles.with_columns(defocus_u=-15000.0, defocus_v=-14000.0)
    assert any("negative" in finding.text for finding in findings(over))
    twice = particles.subset([0, 1, 2, 2, 3])
    assert any("more than once" in finding.text for finding in findings(twice))
