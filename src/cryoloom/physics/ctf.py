"""The contrast transfer function of the microscope, on the points of a frequency lattice."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class CTFParameters(NamedTuple):
    """What the CTF of B particles depends on, each (B,): defocus in Å (positive: underfocus), degrees, kV, mm, Å²."""

    defocus_u: Tensor
    defocus_v: Tensor
    defocus_angle: Tensor
    voltage_kv: Tensor
    cs_mm: Tensor
    amplitude_contrast: Tensor
    phase_shift: Tensor
    b_factor: Tensor

    def select(self, index: Tensor) -> "CTFParameters":
        """The parameters of the particles at `index`, shape (b,)."""
        return CTFParameters(*(p[index] for p in self))

    def to(self, device: torch.device | str) -> "CTFParameters":
        """The same parameters on `device`."""
        return CTFParameters(*(p.to(device) for p in self))


def electron_wavelength(voltage_kv: Tensor) -> Tensor:
    """Relativistic wavelength in Å: 12.2643 / sqrt(V + 0.978466e-6 V²), V in volts."""
    volts = voltage_kv * 1e3
    return 12.2642598 / torch.sqrt(volts * (1 + 0.978466e-6 * volts))


def ctf(parameters: CTFParameters, frequency: Tensor) -> Tensor:
    """CTF values (B, P) at spatial frequencies `frequency` (P, 2) in 1/Å.

    C = −sin(π λ Δf g² − π/2 Cs λ³ g⁴ + φ + asin w) · exp(−B g²/4), with Δf the defocus along g and w the amplitude
    contrast: −w at zero frequency (Rohou & Grigorieff 2015, eq. 1–5). RELION multiplies its white particles by −C.
    """
    p = CTFParameters(*(value.to(torch.float64)[:, None] for value in parameters))
    g = frequency.to(torch.float64)
    g2 = (g**2).sum(-1)
    azimuth = torch.atan2(g[:, 1], g[:, 0])
    mean = (p.defocus_u + p.defocus_v) / 2
    defocus = mean + (p.defocus_u - p.defocus_v) / 2 * torch.cos(2 * (azimuth - torch.deg2rad(p.defocus_angle)))
    wavelength = electron_wavelength(p.voltage_kv)
    chi = math.pi * wavelength * g2 * (defocus - 0.5e7 * p.cs_mm * wavelength**2 * g2)
    chi = chi + torch.deg2rad(p.phase_shift) + torch.asin(p.amplitude_contrast)
    return (-torch.sin(chi) * torch.exp(-p.b_factor * g2 / 4)).float()
