"""Hot and dead pixels are replaced, other pixels are kept to the bit, and images that cannot be used are named."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import Particles, read_particles, write_stack
from cryoloom.data.checks import check_images, count_images, findings
from cryoloom.data.pixels import FAULTS, faults, noise_like, replace_outliers
from cryoloom.data.preprocess import measure_scale, normalise, radial_noise_spectrum
from cryoloom.errors import InputError
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.spherical import contrast_sign
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.team import Team

N, BOX, PIXEL = 300, 32, 7.2


def stack(folder: Path, images: torch.Tensor, box: int | None = None) -> Particles:
    """Particles of images (n, D, D), without CTF."""
    write_stack(folder / "s.mrcs", [images], len(images), images.shape[-1], PIXEL)
    return read_particles(folder / "s.mrcs", box=box)


def simulated(folder: Path, snr: float, box: int = BOX) -> Particles:
    """Particles of the built-in molecule."""
    conformations = conformations_of(Source((Path("phantom"),)), box, PIXEL * BOX / box)
    settings = Simulation(box=box, pixel_size=PIXEL * BOX / box, particles=N, snr=snr, seed=0)
    simulate_particles(conformations, settings, folder)
    return read_particles(folder / "particles.star")


def spoilt(images: torch.Tensor, every: int = 50) -> torch.Tensor:
    """The same images, of which every 50th has one pixel 1,000 standard deviations above or below the mean."""
    spoilt, g = images.clone(), torch.Generator().manual_seed(1)
    for i in range(0, len(images), every):
        y, x = torch.randint(images.shape[-1], (2,), generator=g).tolist()
        spoilt[i, y, x] += (1 - 2 * (i // every % 2)) * 1000 * float(images.std())
    return spoilt


def coloured(n: int, box: int) -> torch.Tensor:
    """Noise (n, box, box) whose power falls with the square of the frequency."""
    lattice = FrequencyLattice.of_box(box)
    noise = torch.randn(n, box, box, generator=torch.Generator().manual_seed(2))
    return lattice.images(lattice.spectrum(noise) / (1 + lattice.radius)) + 0.02 * noise


@pytest.mark.parametrize("box", [None, 24])
def test_single_hot_pixels_hardly_change_spectra(tmp_path: Path, box: int | None) -> None:
    clean = simulated(tmp_path, 0.1)
    rows, whole = torch.arange(N), clean.images()
    (tmp_path / "hot").mkdir()
    hot = stack(tmp_path / "hot", spoilt(whole), box)
    wanted = WorkingImages(stack(tmp_path, whole, box))
    got = WorkingImages(hot)
    error = (got.spectrum(rows) - wanted.spectrum(rows)).abs().square().sum(1)
    power = wanted.spectrum(rows).abs().square().sum(1)
    assert float((error / power).max()) < 0.02
    assert got.outliers(Team()) == (N // 50, N // 50)
    assert wanted.outliers(Team()) == (0, 0)
    torch.testing.assert_close(radial_noise_spectrum(hot), radial_noise_spectrum(wanted.particles), rtol=0.02, atol=0)
    assert measure_scale(hot, 14).typical == pytest.approx(measure_scale(wanted.particles, 14).typical, rel=0.01)


def test_outliers_are_counted_before_any_image_was_read(tmp_path: Path) -> None:
    images = spoilt(torch.randn(N, BOX, BOX, generator=torch.Generator().manual_seed(3)))
    images[0, 3, 4:6] = 900
    assert WorkingImages(stack(tmp_path, images)).outliers(Team()) == (6, 8)


@pytest.mark.parametrize("box", [16, 32, 64])
def test_noise_is_never_changed(box: int) -> None:
    white = torch.randn(1000, box, box, generator=torch.Generator().manual_seed(0))
    axis = torch.linspace(-9, 9, box)
    for images in (white, coloured(1000, box), white + axis[:, None], 1e4 + white):
        after, replaced = replace_outliers(images)
        assert torch.equal(after, images)
        assert not replaced.any()


def test_images_with_much_signal_keep_their_bright_pixels(tmp_path: Path) -> None:
    particles = simulated(tmp_path, 1.0)
    assert torch.equal(particles.clean_images()[0], particles.images())


@pytest.mark.parametrize("box", [BOX, 64])
def test_images_without_noise_are_kept_to_the_bit(tmp_path: Path, box: int) -> None:
    particles = simulated(tmp_path, float("inf"), box)
    assert not particles.noisy
    for some in (particles, particles.with_box(24)):
        assert torch.equal(some.clean_images()[0], some.images())
    points = torch.zeros(N, BOX, BOX)
    points[torch.arange(N), torch.arange(N) % BOX, 7] = 1
    rounding = 1e-8 * torch.randn(N, BOX, BOX, generator=torch.Generator().manual_seed(0))
    for images in (points, points + rounding):
        assert torch.equal(stack(tmp_path, images).clean_images()[0], images)


def test_projections_by_relion_are_kept_to_the_bit(shared_data: Path) -> None:
    for file in sorted((shared_data / "particles" / "relion_reference_projections").glob("*64*.mrcs")):
        particles = read_particles(file, pixel_size=1.0)
        assert torch.equal(particles.clean_images()[0], particles.images()), file


def test_real_images_are_noise(shared_data: Path) -> None:
    particles = read_particles(shared_data / "particles/trpv1_10/trpv1_small_stack.mrcs", pixel_size=1.0)
    assert noise_like(particles.images()).all()
    assert torch.equal(particles.clean_images()[0], particles.images())


@pytest.mark.parametrize(("offset", "factor"), [(1e5, 0.38), (-1e5, 0.38), (0, 1e20), (0, 1e-20), (3e20, 1e20)])
@pytest.mark.parametrize("box", [None, 24])
def test_grey_values_of_any_size(tmp_path: Path, offset: float, factor: float, box: int | None) -> None:
    noise = simulated(tmp_path, 0.3).images()
    noise /= noise.std()
    (tmp_path / "other").mkdir()
    wanted = WorkingImages(stack(tmp_path, spoilt(noise), box))
    got = WorkingImages(stack(tmp_path / "other", (offset + factor * spoilt(noise).double()).float(), box))
    a, b = wanted.spectrum(torch.arange(N))[:, 1:], got.spectrum(torch.arange(N))[:, 1:]
    assert float((a - b).abs().square().sum() / a.abs().square().sum()) < 1e-3
    assert got.outliers(Team()) == wanted.outliers(Team())
    assert contrast_sign(got.particles)[0] == contrast_sign(wanted.particles)[0]
    levels = [radial_noise_spectrum(images.particles).double() for images in (wanted, got)]
    if factor < 1e19:
        torch.testing.assert_close(levels[1], levels[0] * factor**2, rtol=0.01, atol=1e-38)


@pytest.mark.parametrize(("offset", "factor"), [(0, 1.0), (1e5, 1.0), (0, 1e20), (0, 1e-20)])
def test_slopes_are_taken_off_whatever_the_size_of_grey_values(offset: float, factor: float) -> None:
    noise = torch.randn(40, BOX, BOX, generator=torch.Generator().manual_seed(3))
    axis = torch.linspace(-20, 20, BOX)
    images = (offset + factor * (noise + axis[:, None] - axis).double()).float()
    flat, level = normalise(noise, 14), normalise(images, 14)
    assert float((flat - level).square().mean()) < 1e-4


def test_slopes_are_measured_whatever_the_size_of_grey_values(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(4)
    axis, slopes = torch.linspace(-1, 1, BOX), torch.randn(N, 1, 1, generator=g)
    images = torch.randn(N, BOX, BOX, generator=g) + 0.2 * slopes * axis
    scales = [measure_scale(stack(tmp_path, images * factor), 14) for factor in (1.0, 1e20, 1e-20)]
    assert 0.1 < scales[0].tilt < 0.9
    for scale, factor in zip(scales[1:], (1e20, 1e-20), strict=True):
        assert (scale.tilt, scale.trust) == pytest.approx((scales[0].tilt, scales[0].trust), rel=1e-3)
        assert scale.typical == pytest.approx(factor * scales[0].typical, rel=1e-5)


def test_faults_of_images() -> None:
    images = torch.randn(6, 8, 8)
    images[1, 2, 3] = float("nan")
    images[2, 2, 3] = float("-inf")
    images[3] = 5.0
    images[4, 0, 0] = -2e30
    images[5] *= 1e-33
    assert faults(images).tolist() == [0, 1, 1, 2, 3, 4]
    assert "beyond 1e+30" in FAULTS[3]


@pytest.mark.parametrize(("value", "reason"), [(float("nan"), "not finite"), (0.0, "one value in every pixel")])
@pytest.mark.parametrize("box", [None, 8])
def test_a_broken_image_that_no_sample_saw_is_named_when_it_is_read(
    tmp_path: Path, value: float, reason: str, box: int | None
) -> None:
    images = torch.randn(1100, 12, 12, generator=torch.Generator().manual_seed(0))
    images[701] = value
    particles = stack(tmp_path, images, box)
    check_images(particles, 11)
    working = WorkingImages(particles)
    working.spectrum(torch.arange(640))
    with pytest.raises(InputError, match=rf"particle 702: image 702 of .*s\.mrcs .*{reason}.*--skip-bad-images"):
        working.spectrum(torch.arange(640, 768))
    with pytest.raises(InputError, match="particle 702"):
        WorkingImages(particles.subset([5, 701])).spectrum(torch.tensor([1]))


def test_what_info_finds_in_images(tmp_path: Path) -> None:
    images = spoilt(torch.randn(N, BOX, BOX, generator=torch.Generator().manual_seed(3)))
    particles = stack(tmp_path, images)
    texts = [finding.text for finding in findings(particles, N) if not finding.serious]
    assert any("in 6 of 300 images, 6 in all" in text for text in texts)
    images[7:9] = 0
    images[100, 0, 0] = float("inf")
    counted = count_images(stack(tmp_path, images), torch.arange(N).numpy())
    assert counted.rows.tolist() == [7, 8, 100]
    serious = [finding.text for finding in findings(read_particles(tmp_path / "s.mrcs"), N) if finding.serious]
    assert any("3 of 300 images cannot be used, the first: " in text and "particle 8" in text for text in serious)
