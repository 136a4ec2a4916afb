"""The half-plane lattice, shifts, Hartley pairs, shells and FSC."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_fourier_shell_correlation import fourier_shell_correlation as reference_fsc

from cryoloom.physics import fourier
from cryoloom.physics.fourier import FrequencyLattice

# Boxes that are no power of two: fftfreq(box) · box is then not quite whole.
BOXES = [8, 16, 30, 44]


def band_limited(n: int, box: int, generator: torch.Generator) -> torch.Tensor:
    """Random images that hold no frequency outside the lattice."""
    lattice = FrequencyLattice.of_box(box)
    return lattice.images(lattice.spectrum(torch.randn(n, box, box, generator=generator)))


@pytest.mark.parametrize("box", BOXES)
def test_lattice_is_one_half_of_the_circle_sorted_by_radius(box):
    lattice = FrequencyLattice.of_box(box)
    assert torch.equal(lattice.k, lattice.k.round())
    k = {(int(x), int(y)) for x, y in lattice.k}
    r = range(-box // 2, box // 2 + 1)
    circle = {(x, y) for x in r for y in r if math.hypot(x, y) < box / 2}
    assert len(k) == len(lattice)
    assert k | {(-x, -y) for x, y in k} == circle
    assert k & {(-x, -y) for x, y in k} == {(0, 0)}
    assert (lattice.radius.diff() >= 0).all()
    assert torch.allclose(lattice.radius, lattice.k.norm(dim=1))
    assert int(lattice.weight.sum()) == len(circle)


@pytest.mark.parametrize("box", BOXES)
def test_spectrum_is_the_centred_sum(box, generator):
    image = torch.randn(box, box, generator=generator, dtype=torch.float64)
    lattice = FrequencyLattice.of_box(box)
    r = torch.arange(box, dtype=torch.float64) - box // 2
    y, x = torch.meshgrid(r, r, indexing="ij")
    k = lattice.k.double()
    phase = -2 * math.pi / box * (k[:, :1] * x.flatten() + k[:, 1:] * y.flatten())
    direct = (torch.polar(torch.ones_like(phase), phase) * image.flatten()).sum(1)
    assert torch.allclose(lattice.spectrum(image).to(direct), direct, atol=1e-9)


@pytest.mark.parametrize("box", BOXES)
def test_images_come_back_from_their_spectra(box, generator):
    lattice = FrequencyLattice.of_box(box)
    images = band_limited(3, box, generator)
    assert torch.allclose(lattice.images(lattice.spectrum(images)), images, atol=1e-5)
    spectra = lattice.spectrum(torch.randn(3, box, box, generator=generator))
    assert torch.allclose(lattice.spectrum(lattice.images(spectra)), spectra, atol=1e-4)


@pytest.mark.parametrize("box", BOXES)
def test_weights_make_parseval_hold(box, generator):
    lattice = FrequencyLattice.of_box(box)
    images = band_limited(3, box, generator)
    power = (lattice.spectrum(images).abs() ** 2 * lattice.weight).sum(1) / box**2
    assert torch.allclose(power, (images**2).sum((1, 2)), rtol=1e-4)


def test_a_band_is_a_prefix(generator):
    lattice = FrequencyLattice.of_box(16)
    images = torch.randn(2, 16, 16, generator=generator)
    for band in (0, 1, math.sqrt(2), 3.5, 5, 7.9):
        part = lattice.prefix(band)
        assert len(part) == lattice.count(band) == int((lattice.radius <= band + 1e-4).sum())
        assert torch.equal(part.k, lattice.k[: len(part)])
        assert torch.equal(part.spectrum(images), lattice.spectrum(images)[:, : len(part)])
    low = lattice.prefix(3)
    kept = lattice.spectrum(low.images(low.spectrum(images)))
    assert kept[:, len(low) :].abs().max() < 1e-4


def test_odd_boxes_are_refused():
    with pytest.raises(ValueError, match="even"):
        FrequencyLattice.of_box(15)


def test_gradients_pass_through_images_and_spectra(generator):
    lattice = FrequencyLattice.of_box(8)
    image = torch.randn(8, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(8, 8, generator=generator, dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return ((lattice.images(lattice.spectrum(x)) - target) ** 2).sum()

    assert torch.autograd.gradcheck(loss, image)


def test_shells_average_and_spread():
    lattice = FrequencyLattice.of_box(16)
    radial = torch.arange(8.0) ** 2
    exact = lattice.shell_mean(radial[lattice.shell.clamp(max=7)][None])
    assert torch.allclose(exact[0], radial)
    on_lattice = lattice.from_shells(radial)
    whole = lattice.radius == lattice.radius.round()
    assert torch.allclose(on_lattice[whole], radial[lattice.radius[whole].long()])
    assert (on_lattice.diff() >= -1e-5).all()


@given(dx=st.integers(-8, 8), dy=st.integers(-8, 8))
def test_shift_by_whole_pixels_rolls_the_image(dx, dy):
    images = band_limited(2, 16, torch.Generator().manual_seed(3))
    lattice = FrequencyLattice.of_box(16)
    phases = fourier.shift_phases(lattice.k, torch.tensor([[float(dx), float(dy)]]), 16)
    moved = lattice.images(lattice.spectrum(images) * phases)
    assert torch.allclose(moved, torch.roll(images, (dy, dx), (-2, -1)), atol=1e-4)


def test_hartley_pairs_come_back(generator):
    spectrum = torch.randn(3, 20, generator=generator, dtype=torch.complex64)
    hartley = fourier.to_hartley(spectrum)
    assert hartley.shape == (3, 2, 20)
    assert hartley.dtype == torch.float32
    assert torch.allclose(fourier.from_hartley(hartley), spectrum, atol=1e-6)
    # The coefficient at −k is the conjugate, so its Hartley value is the second of the pair.
    assert torch.allclose(fourier.to_hartley(spectrum.conj())[:, 0], hartley[:, 1])


@pytest.mark.parametrize("box", [8, 9, 16])
def test_centred_transform_comes_back_and_has_its_origin_in_the_middle(box, generator):
    volume = torch.randn(box, box, box, generator=generator)
    spectrum = fourier.centred_fft3(volume)
    assert torch.allclose(fourier.centred_ifft3(spectrum), volume, atol=1e-5)
    half = fourier.centred_half_fft3(volume)
    assert torch.allclose(half, spectrum[..., box // 2 :], atol=1e-5 * float(spectrum.abs().max()))
    assert spectrum[box // 2, box // 2, box // 2].real == pytest.approx(float(volume.sum()), abs=1e-3)
    point = torch.zeros(box, box, box)
    point[box // 2, box // 2, box // 2] = 1
    assert torch.allclose(fourier.centred_fft3(point), torch.ones(box, box, box, dtype=torch.complex64), atol=1e-6)


def correlated(box: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A volume and a copy whose noise grows with frequency."""
    a = torch.randn(box, box, box, generator=generator)
    noise = fourier.centred_fft3(torch.randn(box, box, box, generator=generator))
    return a, a + fourier.centred_ifft3(noise * fourier.radii3(box) * (3 / box))


def test_fsc_agrees_with_the_reference_package(generator):
    a, b = correlated(32, generator)
    ours = fourier.fourier_shell_correlation(a, b)
    theirs = reference_fsc(a, b)[: len(ours)]
    assert len(ours) == 16
    # Theirs shares each coefficient between two shells, ours gives it to the nearest: equal but for that blur.
    assert (ours - theirs)[1:].abs().max() < 0.05


def test_fsc_of_simple_pairs(generator):
    a = torch.randn(16, 16, 16, generator=generator)
    assert torch.allclose(fourier.fourier_shell_correlation(a, 3 * a), torch.ones(8), atol=1e-5)
    assert torch.allclose(fourier.fourier_shell_correlation(a, -a), -torch.ones(8), atol=1e-5)
    assert torch.equal(fourier.fourier_shell_correlation(a, torch.zeros_like(a)), torch.zeros(8))


def test_crossing_is_interpolated():
    fsc = torch.tensor([1.0, 1.0, 0.9, 0.6, 0.2, 0.6, 0.0])
    assert fourier.crossing_shell(fsc, 0.5) == pytest.approx(3.25)
    assert fourier.crossing_shell(fsc, 0.143) == pytest.approx(5 + (0.6 - 0.143) / 0.6)
    assert fourier.crossing_shell(fsc, 0.6) == pytest.approx(3.0, abs=1e-5)
    assert fourier.crossing_shell(torch.ones(8), 0.143) == 7.0
    assert 0 <= fourier.crossing_shell(torch.zeros(8), 0.5) <= 1


def test_a_dip_in_the_first_two_shells_ends_no_curve():
    good = torch.tensor([1.0, 0.1, -0.2, 0.9, 0.9, 0.9, 0.0])
    assert fourier.crossing_shell(good, 0.45) == pytest.approx(5.5)
    by_chance = torch.tensor([1.0, 0.1, -0.2, 0.9, 0.0, 0.0, 0.0])
    assert fourier.crossing_shell(by_chance, 0.45) <= 1
    later = torch.tensor([1.0, 0.9, 0.9, 0.0, 0.9, 0.9, 0.0])
    assert fourier.crossing_shell(later, 0.45) == pytest.approx(2.5)


def test_a_shell_that_is_not_a_number_is_below():
    fsc = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, torch.nan, 1.0])
    assert 4 <= fourier.crossing_shell(fsc, 0.5) <= 5
    assert fourier.crossing_shell(torch.full((8,), torch.nan), 0.5) <= 1


def test_a_threshold_may_differ_from_shell_to_shell():
    fsc = torch.tensor([1.0, 1.0, 0.9, 0.6, 0.4, 0.2, 0.0])
    least = torch.tensor([1.0, 0.9, 0.7, 0.5, 0.5, 0.143, 0.143])
    assert fourier.crossing_shell(fsc, least) == pytest.approx(3.5)


@pytest.mark.parametrize(("old", "new"), [(16, 16), (16, 24), (32, 16), (30, 20)])
def test_resampling_keeps_the_mean_and_the_waves(old, new):
    def wave(box: int) -> torch.Tensor:
        r = (torch.arange(box) - box // 2) * (2 * math.pi / box)
        return 1.5 + torch.cos(2 * r[:, None] + 3 * r[None, :])

    assert torch.allclose(fourier.resample_images(wave(old), new), wave(new), atol=1e-5)
