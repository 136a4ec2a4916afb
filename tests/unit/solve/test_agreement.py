"""Half-maps of which the FSC is known: the corrected one claims no more, whatever the mask and the spectrum."""

from dataclasses import dataclass

import pytest
import torch
from scipy.ndimage import distance_transform_edt

from cryoloom.physics.fourier import (
    centred_fft3,
    centred_ifft3,
    crossing_shell,
    fourier_shell_correlation,
    radii3,
    shell_sums3,
)
from cryoloom.solve.em.agreement import agreement, chance_level
from cryoloom.solve.em.masks import low_pass, soft_sphere

BOX = 32
SHELLS = torch.arange(BOX // 2)
COUNTS = shell_sums3(torch.ones(BOX, BOX, BOX)).float()
# Voxels by which a mask grows beyond the molecule, and those of its edge.
MASKS = {"hard": (0.5, 1.0), "fitting": (3.0, 4.0), "wide": (6.0, 5.0)}


@dataclass
class Case:
    """Half-maps, their mask and the shell where the FSC of the molecule in the noise inside it is 0.143."""

    halves: tuple[torch.Tensor, torch.Tensor]
    mask: torch.Tensor
    true_shell: float


def filtered(volume: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    radius = radii3(BOX).clamp(max=BOX // 2 - 1)
    low = radius.floor().long()
    high = (low + 1).clamp(max=BOX // 2 - 1)
    return centred_ifft3(centred_fft3(volume) * torch.lerp(gain[low], gain[high], radius - low))


def fall_off(distance: torch.Tensor, edge: float) -> torch.Tensor:
    return 0.5 + 0.5 * torch.cos(torch.pi * (distance / edge).clamp(0, 1))


def case(mask_name: str, end: float, surroundings: float, seed: int) -> Case:
    """A molecule of some balls in white noise, both then filtered down to `end` at the last shell by a B-factor.

    surroundings: an offset, and three tenths of it as slow ups and downs through the box, that both halves share, in
    standard deviations of the molecule.
    """
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(BOX) - BOX / 2
    inside = torch.zeros(BOX, BOX, BOX, dtype=torch.bool)
    for _ in range(4):
        centre = (torch.rand(3, generator=generator) - 0.5) * BOX / 4
        radius = BOX * (0.08 + 0.08 * float(torch.rand(1, generator=generator)))
        z, y, x = ((axis - c) ** 2 for c in centre)
        inside |= z[:, None, None] + y[None, :, None] + x[None, None, :] < radius**2
    distance = torch.from_numpy(distance_transform_edt(~inside.numpy())).float()
    near = BOX * (0.18 + 0.025 * (seed % 7))
    # The spectral SNR falls by e in two shells where the resolution ends: flatter ones have no end that can be read.
    molecule = torch.randn(BOX, BOX, BOX, generator=generator).abs() * fall_off(distance, 1.5)
    molecule = filtered(molecule, torch.exp(-(SHELLS**2) / (8 * near)))
    sphere = soft_sphere(BOX, 0.42 * BOX)
    mask = sphere if mask_name == "sphere" else fall_off(distance - MASKS[mask_name][0], MASKS[mask_name][1]) * sphere
    signal = (shell_sums3(centred_fft3(molecule).abs() ** 2) / COUNTS).float()
    part = float((mask**2).mean())
    noise = float(signal[int(near) - 1 : int(near) + 2].log().mean().exp()) * (1 / 0.143 - 1) / part
    slow = low_pass(torch.randn(BOX, BOX, BOX, generator=generator), BOX / 10)
    shared = surroundings * molecule[inside].std() * (1 + 0.3 * slow / slow.std())
    fall = torch.exp(torch.tensor(end).log() * (SHELLS / SHELLS[-1]) ** 2)
    a, b = (
        filtered(
            molecule + shared + (noise / BOX**3) ** 0.5 * torch.randn(BOX, BOX, BOX, generator=generator),
            fall,
        )
        for _ in range(2)
    )
    return Case((a, b), mask, crossing_shell(signal / (signal + part * noise), 0.143))


@pytest.mark.parametrize("surroundings", [0.0, 10.0])
# B-factors of 0, and of 800 Å² at 3 Å a voxel or 5700 at 8 Å.
@pytest.mark.parametrize("end", [1.0, 0.004])
@pytest.mark.parametrize("mask_name", ["hard", "fitting", "wide", "sphere"])
def test_the_corrected_fsc_claims_no_more_than_is_true(mask_name: str, end: float, surroundings: float):
    beyond = []
    for seed in range(7):
        known = case(mask_name, end, surroundings, seed)
        beyond.append(agreement(known.halves, known.mask, seed).shell_at(0.143) - known.true_shell)
    assert max(beyond) < 1.2
    # A hard mask hides what the maps share; the others cost nothing.
    assert min(beyond) > (-9 if mask_name == "hard" else -2)


@pytest.mark.parametrize("end", [1.0, 0.004])
@pytest.mark.parametrize("mask_name", ["hard", "fitting", "sphere"])
def test_noise_alone_has_no_resolution(mask_name: str, end: float):
    mask = case(mask_name, 1.0, 0.0, 1).mask
    fall = torch.exp(torch.tensor(end).log() * (SHELLS / SHELLS[-1]) ** 2)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        a, b = (filtered(torch.randn(BOX, BOX, BOX, generator=generator), fall) for _ in range(2))
        assert agreement((a, b), mask, seed).shell_at(0.143) < 3


def test_without_a_mask_nothing_is_corrected_that_the_halves_do_not_share():
    known = case("sphere", 0.08, 0.0, 2)
    curves = agreement(known.halves, torch.ones(BOX, BOX, BOX), 0)
    assert torch.allclose(curves.masked, curves.unmasked, atol=1e-4)
    assert torch.allclose(curves.unmasked, fourier_shell_correlation(*known.halves))
    assert float((curves.fsc - curves.unmasked).abs()[4:].max()) < 0.1


def test_the_grey_values_of_one_half_do_not_matter():
    known = case("fitting", 0.08, 10.0, 3)
    a, b = known.halves
    assert torch.allclose(agreement((a, 7 * b), known.mask, 0).fsc, agreement((a, b), known.mask, 0).fsc, atol=1e-3)


def test_a_mask_that_hides_the_end_is_noticed():
    hard = torch.zeros(BOX, BOX, BOX)
    hard[14:18, 14:18, 14:18] = 1
    generator = torch.Generator().manual_seed(1)
    shared = low_pass(torch.randn(BOX, BOX, BOX, generator=generator), 6)
    a, b = (shared + 0.02 * torch.randn(BOX, BOX, BOX, generator=generator) for _ in range(2))
    assert agreement((a, b), hard, 0).hidden_by_mask(0.143)
    assert not agreement((a, b), soft_sphere(BOX, 9, edge=6), 0).hidden_by_mask(0.143)


@pytest.mark.parametrize("mask_name", ["hard", "fitting", "sphere"])
def test_noise_stays_below_chance_in_most_shells(mask_name: str):
    mask = case(mask_name, 1.0, 0.0, 1).mask
    generator = torch.Generator().manual_seed(5)
    pairs = [[torch.randn(BOX, BOX, BOX, generator=generator) * mask for _ in range(2)] for _ in range(40)]
    scatter = torch.stack([fourier_shell_correlation(a, b) for a, b in pairs])[:, 4:].square().mean(0).sqrt()
    expected = chance_level(mask)[4:].atanh() / 2
    assert float((scatter / expected).mean()) == pytest.approx(1, abs=0.2)
    # Noise that a point group repeats counts once.
    assert float((chance_level(mask, 4)[4:].atanh() / 2 / expected).mean()) == pytest.approx(2, rel=1e-3)


def test_maps_that_are_not_numbers_or_empty_agree_on_nothing():
    mask = soft_sphere(BOX, 10)
    for value in (0.0, float("nan")):
        empty = torch.full((BOX, BOX, BOX), value)
        assert agreement((empty, empty), mask, 0).shell_at(0.143) <= 1
