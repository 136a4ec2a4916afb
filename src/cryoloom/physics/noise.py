"""Noise with a radial power spectrum: drawing it, and measuring it."""

import torch
from torch import Tensor

from cryoloom.physics.fourier import FrequencyLattice


def draw_noise(n: int, spectrum: Tensor, box: int, generator: torch.Generator | None = None) -> Tensor:
    """Gaussian noise images (n, D, D) whose variance per Fourier coefficient, over D², is `spectrum` (D/2,) by shell.

    A flat spectrum of ones is white noise of unit variance per pixel. Frequencies beyond the last shell take its value.
    """
    white = torch.randn(n, box, box, generator=generator)
    frequency = torch.fft.fftfreq(box) * box
    radius = torch.hypot(frequency[:, None], frequency[None, : box // 2 + 1].abs()).clamp(max=len(spectrum) - 1)
    low = radius.floor().long()
    high = (low + 1).clamp(max=len(spectrum) - 1)
    gain = (spectrum[low] + (radius - low) * (spectrum[high] - spectrum[low])).clamp(min=0).sqrt()
    return torch.fft.irfft2(torch.fft.rfft2(white) * gain, s=(box, box))


def radial_power(images: Tensor) -> Tensor:
    """Mean power per pixel (D/2,) of images (B, D, D) by shell: `⟨|F(k)|²⟩ / D²`, 1 for white noise of variance 1."""
    lattice = FrequencyLattice.of_box(images.shape[-1], images.device)
    power = lattice.spectrum(images).abs().square().mean(0)
    return lattice.shell_mean(power) / images.shape[-1] ** 2
