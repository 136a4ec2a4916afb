"""What two half-maps say together: corrected FSC, resolution and a sharpened map."""

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


@dataclass(frozen=True)
class Postprocessed:
    """FSC curves (D/2,) by shell, resolution in Å at 0.143 of the corrected one, sharpened map, its B-factor in Å²."""

    fsc: Tensor
    fsc_unmasked: Tensor
    fsc_masked: Tensor
    fsc_phase_randomised: Tensor
    resolution_angst: float
    sharpened: Tensor
    b_factor: float


def postprocess(
    half_maps: tuple[Tensor, Tensor], volume: Tensor, mask: Tensor, pixel_size: float, seed: int
) -> Postprocessed:
    """Mask-corrected FSC of two half-maps, and the map sharpened by its own Guinier plot.

    Beyond the shell where the unmasked FSC falls below 0.8 the phases of both halves are randomised; the corrected FSC
    is (FSC_masked − FSC_random) / (1 − FSC_random) there (Chen et al. 2013).
    """
    a, b = half_maps
    unmasked, masked = fourier_shell_correlation(a, b), fourier_shell_correlation(a * mask, b * mask)
    first = math.ceil(crossing_shell(unmasked, 0.8))
    generator = torch.Generator().manual_seed(seed)
    random = [_randomise_phases(half, first, generator) * mask for half in half_maps]
    randomised = fourier_shell_correlation(random[0], random[1])
    # Two shells later: a masked FSC leaks from its neighbours (as RELION does).
    beyond = torch.arange(len(masked)) >= first + 2
    corrected = torch.where(beyond, (masked - randomised) / (1 - randomised).clamp(min=1e-3), masked)
    shell = crossing_shell(corrected, 0.143)
    resolution = a.shape[-1] * pixel_size / max(shell, 1e-3)
    sharpened, b_factor = _sharpen(volume * mask, corrected, shell, pixel_size)
    return Postprocessed(corrected, unmasked, masked, randomised, resolution, sharpened, b_factor)


def _randomise_phases(volume: Tensor, first: int, generator: torch.Generator) -> Tensor:
    spectrum = centred_fft3(volume)
    noise = centred_fft3(torch.randn(volume.shape, generator=generator).to(volume.device))
    turned = spectrum.abs() * noise / noise.abs().clamp(min=1e-20)
    return centred_ifft3(torch.where(radii3(volume.shape[-1], volume.device).round() >= first, turned, spectrum))


def _sharpen(volume: Tensor, fsc: Tensor, last: float, pixel_size: float) -> tuple[Tensor, float]:
    """Map weighted by √(2 FSC / (1 + FSC)) and sharpened by its Guinier plot's slope from 10 Å to the resolution."""
    box = volume.shape[-1]
    spectrum = centred_fft3(volume)
    counts = shell_sums3(torch.ones_like(volume)).clamp(min=1)
    amplitude = (shell_sums3(spectrum.abs() ** 2) / counts).sqrt().float()
    g2 = (torch.arange(box // 2) / (box * pixel_size)) ** 2
    fitted = (torch.arange(box // 2) >= box * pixel_size / 10) & (torch.arange(box // 2) <= last)
    b_factor = 0.0
    if int(fitted.sum()) >= 4:
        x, y = g2[fitted], amplitude[fitted].clamp(min=1e-20).log()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        b_factor = min(0.0, float(4 * slope))
    weight = (2 * fsc.clamp(0, 1) / (1 + fsc.clamp(0, 1))).sqrt() * torch.exp(-b_factor * g2 / 4)
    weight[torch.arange(box // 2) > last] = 0
    shell = radii3(box, volume.device).round().long().clamp(max=box // 2)
    gain = torch.cat([weight, weight.new_zeros(1)]).to(volume.device)[shell]
    return centred_ifft3(spectrum * gain), b_factor
