"""The noise of simulated images: white, or coloured by a radial spectrum, built in or measured."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoloom.data.cryodrgn import read_pickle
from cryoloom.errors import InputError
from cryoloom.physics.noise import draw_noise
from cryoloom.simulate.settings import Simulation


def noise_spectrum(settings: Simulation) -> Tensor:
    """Power (D/2,) of the noise by shell, scaled so that its variance over all pixels is 1; ones for white noise.

    Raises InputError for a spectrum file that cannot be used.
    """
    shells = settings.box // 2
    if settings.noise == "white":
        return torch.ones(shells)
    if settings.noise_spectrum is None:
        spectrum = falling_spectrum(shells, settings.pixel_size)
    else:
        spectrum = _stretched(read_spectrum(settings.noise_spectrum), shells)
    return spectrum / pixel_variance(spectrum, settings.box)


def falling_spectrum(shells: int, pixel_size: float) -> Tensor:
    """A spectrum (D/2,) like that of particles in vitreous ice: 1 + 2.6 exp(−(60 g)^2) + 2 / (1 + (20 g)²), g in 1/Å.

    Low frequencies (thickness, neighbours, solvent) are about five times as strong as the flat floor of shot noise.
    """
    g = torch.arange(shells) / (2 * shells * pixel_size)
    return 1 + 2.6 * torch.exp(-((60 * g) ** 2)) + 2 / (1 + (20 * g) ** 2)


def pixel_variance(spectrum: Tensor, box: int) -> float:
    """Variance over all pixels of noise of power `spectrum` (D/2,) by shell: its mean over the whole Fourier plane."""
    frequency = torch.fft.fftfreq(box) * box
    radius = torch.hypot(frequency[:, None], frequency[None]).clamp(max=len(spectrum) - 1)
    low = radius.floor().long()
    high = (low + 1).clamp(max=len(spectrum) - 1)
    return float((spectrum[low] + (radius - low) * (spectrum[high] - spectrum[low])).double().mean())


def read_spectrum(path: Path) -> Tensor:
    """A radial power spectrum (S,), zero frequency to Nyquist, from a text, .npy or .pkl file; raises InputError."""
    try:
        if path.suffix == ".pkl":
            values = read_pickle(path)
        elif path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = np.loadtxt(path, delimiter="," if path.suffix == ".csv" else None)
        spectrum = torch.as_tensor(np.asarray(values, dtype=np.float32))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no noise spectrum ({error}): expected one number for each shell.") from error
    if spectrum.ndim != 1 or len(spectrum) < 2 or not bool((spectrum >= 0).all() and spectrum.isfinite().all()):
        raise InputError(f"{path} is no noise spectrum: expected powers of 0 or more, one for each shell to Nyquist.")
    return spectrum


def _stretched(spectrum: Tensor, shells: int) -> Tensor:
    return torch.nn.functional.interpolate(spectrum[None, None], size=shells, mode="linear", align_corners=True)[0, 0]


def noise_images(n: int, spectrum: Tensor, settings: Simulation, generator: torch.Generator) -> Tensor:
    """Noise (n, D, D) of unit variance over all pixels."""
    if settings.noise == "white":
        return torch.randn(n, settings.box, settings.box, generator=generator)
    return draw_noise(n, spectrum, settings.box, generator)
