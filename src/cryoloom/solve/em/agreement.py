"""How far two half-maps agree inside a mask, without what the mask itself makes them share."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoloom.physics.fourier import (
    centred_fft3,
    centred_ifft3,
    crossing_shell,
    fourier_shell_correlation,
    radii3,
    shell_sums3,
)

# A mean over four draws has half the scatter of one; more would cost more than the rest of the end of a run.
_DRAWS = 4
# Above this most of what is seen in a shell came through the mask: what is left after subtraction is not to be trusted.
_MOSTLY_MASK = 0.6
# Noise alone exceeds this many standard deviations in one shell of 44, and two shells running hardly ever.
_SIGMAS = 2.0
# Single precision loses what is fainter than this beside the strongest shell.
_FAINTEST = 1e-6


@dataclass(frozen=True)
class Agreement:
    """FSC curves (D/2,) of two half-maps by shell.

    fsc: corrected for the mask. unmasked, masked, randomised: what it is made of. chance: what noise alone may reach.
    """

    fsc: Tensor
    unmasked: Tensor
    masked: Tensor
    randomised: Tensor
    chance: Tensor

    def shell_at(self, threshold: float) -> float:
        """The shell, between integers, where `fsc` first falls below the threshold, or to what noise may reach."""
        return crossing_shell(self.fsc, self.chance.clamp(min=threshold))

    def hidden_by_mask(self, threshold: float) -> bool:
        """Whether the agreement ends where the mask hides it: most of what the next shell shows came through it."""
        if self.shell_at(threshold) > len(self.fsc) - 3:
            # What ends with the box has no shell after it to tell.
            return False
        # The few coefficients of the first two shells correlate by chance.
        after = max(3, math.ceil(self.shell_at(threshold)))
        return bool((self.randomised[after : after + 2] > _MOSTLY_MASK).any())


def agreement(half_maps: tuple[Tensor, Tensor], mask: Tensor, seed: int, copies: int = 1) -> Agreement:
    """FSC of two half-maps (D, D, D) inside a mask, of maps with `copies` equal parts (the order of the point group).

    A product with a mask mixes neighbouring frequencies, and where strong shells leak into weak ones both halves share
    what leaked. So each is first given the same power in every shell, which changes no FSC without a mask and leaves
    nothing strong to leak. What still leaks is measured: from the shell on where the unmasked FSC falls below 0.8, the
    phases of both are drawn at random, and `(FSC_masked − FSC_random) / (1 − FSC_random)` is taken there (Chen et al.
    2013). Shells where FSC_random is above 0.6 count as they do without the mask.
    """
    unmasked = fourier_shell_correlation(*half_maps).cpu()
    a, b = (_flattened(half) for half in half_maps)
    masked = fourier_shell_correlation(a * mask, b * mask).cpu()
    first = math.ceil(crossing_shell(unmasked, 0.8))
    randomised = _phase_randomised((a, b), mask, first, torch.Generator().manual_seed(seed))
    corrected = (masked - randomised) / (1 - randomised).clamp(min=1 - _MOSTLY_MASK)
    # What the whole maps share no mask has added.
    corrected = torch.where(randomised > _MOSTLY_MASK, unmasked.clamp(min=0), corrected)
    corrected = torch.where(torch.arange(len(masked)) >= first, corrected, masked)
    return Agreement(corrected, unmasked, masked, randomised, chance_level(mask, copies))


def chance_level(mask: Tensor, copies: int = 1) -> Tensor:
    """The FSC (D/2,) that noise inside a mask (D, D, D) stays below in 43 shells of 44.

    `tanh(2 √(c / n))`, two standard deviations of Fisher's z, for the n coefficients of a shell. Under a mask one of c
    is independent: `c = copies · Σ_q |M(q)|² p(q) / |M(0)|²`, with M the transform of mask² and p = min(1, 1 / 2q) the
    part of the neighbours at distance q that lie in the same shell.
    """
    power = centred_fft3(mask**2).abs() ** 2
    alike = power / power.max().clamp(min=1e-30)
    same_shell = 1 / (2 * radii3(mask.shape[-1], mask.device)).clamp(min=1)
    dependent = max(1.0, float((alike * same_shell).sum())) * copies
    return torch.tanh(_SIGMAS * (dependent / shell_sums3(torch.ones_like(mask))).sqrt()).float().cpu()


def _flattened(volume: Tensor) -> Tensor:
    """The map (D, D, D) divided by the root mean square amplitude of each shell."""
    box = volume.shape[-1]
    spectrum = centred_fft3(volume)
    amplitude = (shell_sums3(spectrum.abs() ** 2) / shell_sums3(torch.ones_like(volume))).sqrt().float()
    gain = 1 / amplitude.maximum((_FAINTEST * amplitude.max()).clamp(min=1e-30))
    return centred_ifft3(spectrum * gain[radii3(box, volume.device).round().long().clamp(max=box // 2 - 1)])


def _phase_randomised(half_maps: tuple[Tensor, Tensor], mask: Tensor, first: int, generator: torch.Generator) -> Tensor:
    """FSC (D/2,) inside the mask of maps with random phases from shell `first` on, over several draws."""
    spectra = [centred_fft3(half) for half in half_maps]
    sums = [torch.zeros(mask.shape[-1] // 2, dtype=torch.float64, device=mask.device) for _ in range(3)]
    for _ in range(_DRAWS):
        a, b = (centred_fft3(_randomise_phases(spectrum, first, generator) * mask) for spectrum in spectra)
        for total, values in zip(sums, ((a * b.conj()).real, a.abs() ** 2, b.abs() ** 2), strict=True):
            total += shell_sums3(values)
    cross, power_a, power_b = sums
    return (cross / (power_a * power_b).clamp(min=1e-300).sqrt()).float().cpu()


def _randomise_phases(spectrum: Tensor, first: int, generator: torch.Generator) -> Tensor:
    noise = centred_fft3(torch.randn(spectrum.shape, generator=generator).to(spectrum.device))
    turned = spectrum.abs() * noise / noise.abs().clamp(min=1e-20)
    return centred_ifft3(torch.where(radii3(spectrum.shape[-1], spectrum.device).round() >= first, turned, spectrum))
