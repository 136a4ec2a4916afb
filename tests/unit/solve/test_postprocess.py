"""What half-maps say: resolution where they share signal, nothing where they share a mask only."""

import pytest
import torch

from cryoloom.physics.fourier import centred_fft3, centred_ifft3, fourier_shell_correlation, radii3
from cryoloom.solve.em.agreement import Agreement
from cryoloom.solve.em.masks import low_pass, soft_sphere
from cryoloom.solve.em.postprocess import agreement_alarms, postprocess

BOX, PIXEL = 48, 1.5


@pytest.fixture
def signal() -> torch.Tensor:
    """White density inside a ball: as much signal in every shell."""
    white = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(4))
    return white * soft_sphere(BOX, 14, edge=4)


@pytest.fixture
def noise() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.randn(BOX, BOX, BOX, generator=generator) for _ in range(2)]


def test_resolution_is_where_the_shared_signal_ends(signal, noise):
    shared = low_pass(signal, 12)
    halves = (shared + 0.05 * noise[0], shared + 0.05 * noise[1])
    mask = soft_sphere(BOX, 16, edge=4)
    post = postprocess(halves, sum(halves) / 2, mask, PIXEL, seed=0)
    assert BOX * PIXEL / 16 < post.resolution_angst < BOX * PIXEL / 11
    assert float(post.fsc[1:10].min()) > 0.95
    assert float(post.fsc[16:].abs().mean()) < 0.1


def test_a_mask_alone_gives_no_resolution(noise):
    mask = soft_sphere(BOX, 6, edge=6)
    post = postprocess((noise[0], noise[1]), noise[0] + noise[1], mask, PIXEL, seed=0)
    # A tight mask correlates neighbouring frequencies, hence few independent values a shell.
    assert float(post.fsc[6:].mean().abs()) < 0.1
    assert post.resolution_angst > BOX * PIXEL / 4


def test_what_a_mask_adds_is_taken_off_again(noise):
    """Halves that share only a constant: a hard mask gives both its own high frequencies."""
    mask = soft_sphere(BOX, 16, edge=1)
    post = postprocess((noise[0] + 3, noise[1] + 3), noise[0] + noise[1], mask, PIXEL, seed=0)
    assert float(fourier_shell_correlation(*((half + 3) * mask for half in noise))[4:].mean()) > 0.4
    assert abs(float(post.fsc[4:].mean())) < 0.1
    assert post.resolution_angst > BOX * PIXEL / 4


def test_randomised_phases_share_nothing(signal, noise):
    halves = (signal + 0.1 * noise[0], signal + 0.1 * noise[1])
    clear = postprocess((low_pass(halves[0], 10), low_pass(halves[1], 10)), signal, torch.ones_like(signal), PIXEL, 0)
    shells = clear.fsc_phase_randomised
    assert float(shells[:8].min()) > 0.8
    assert float(shells[13:].abs().max()) < 0.1


def test_sharpening_undoes_a_b_factor(signal, noise):
    g2 = (radii3(BOX) / (BOX * PIXEL)) ** 2
    blurred = centred_ifft3(centred_fft3(signal) * torch.exp(-60.0 * g2 / 4))
    halves = (blurred + 1e-4 * noise[0], blurred + 1e-4 * noise[1])
    post = postprocess(halves, blurred, torch.ones_like(signal), PIXEL, seed=0)
    assert post.b_factor == pytest.approx(-60, rel=0.15)
    high = (radii3(BOX).round() == 16).nonzero(as_tuple=True)
    low = (radii3(BOX).round() == 6).nonzero(as_tuple=True)

    def fall(volume: torch.Tensor) -> float:
        amplitude = centred_fft3(volume).abs()
        return float(amplitude[high].mean() / amplitude[low].mean())

    assert fall(post.sharpened) > 1.3 * fall(blurred)


def test_a_map_that_rises_is_not_blurred(signal, noise):
    g2 = (radii3(BOX) / (BOX * PIXEL)) ** 2
    rising = centred_ifft3(centred_fft3(signal) * torch.exp(30.0 * g2 / 4))
    halves = (rising + 1e-4 * noise[0], rising + 1e-4 * noise[1])
    assert postprocess(halves, rising, torch.ones_like(signal), PIXEL, seed=0).b_factor == 0


def test_the_sharpened_map_ends_at_the_resolution(signal, noise):
    shared = low_pass(signal, 12)
    halves = (shared + 0.1 * noise[0], shared + 0.1 * noise[1])
    post = postprocess(halves, sum(halves) / 2, soft_sphere(BOX, 18), PIXEL, seed=0)
    shell = BOX * PIXEL / post.resolution_angst
    amplitude = centred_fft3(post.sharpened).abs()
    assert float(amplitude[radii3(BOX).round() > shell + 1].max()) < 1e-3 * float(amplitude.max())


def test_the_same_seed_gives_the_same_curve(signal, noise):
    halves = (signal + noise[0], signal + noise[1])
    a, b, c = (postprocess(halves, signal, soft_sphere(BOX, 16), PIXEL, seed).fsc for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_noise_has_the_resolution_of_the_whole_box_and_no_alarm_of_its_own(noise):
    post = postprocess((noise[0], noise[1]), noise[0], soft_sphere(BOX, 16), PIXEL, seed=0)
    assert post.resolution_angst > BOX * PIXEL / 3
    assert not agreement_alarms(post.curves, BOX * PIXEL)


def test_a_mask_that_hides_the_end_and_an_agreement_by_chance_are_told():
    shells = BOX // 2
    falling = torch.linspace(1, 0, shells)
    low = torch.full((shells,), 0.1)

    def names(fsc, randomised, chance):
        return [alarm.name for alarm in agreement_alarms(Agreement(fsc, fsc, fsc, randomised, chance), BOX * PIXEL)]

    assert names(falling, low, low) == []
    hiding = torch.where(torch.arange(shells) > 8, 0.8, 0.1)
    assert names(torch.where(hiding > 0.6, 0, falling), hiding, low) == ["mask-too-tight"]
    assert names(falling, low, 0 * low + 0.6) == ["agreement-by-chance"]
