"""The spherical average of a molecule, from its images alone: how large it is, and whether it is white or black."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.shifts import shift_disc, shift_log_prior
from cryoloom.physics.fourier import shift_phases
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.scope import Scope, ScopeSettings

_ITERATIONS = 5
# Part of the molecule's mass inside of the radius that is reported.
_INSIDE = 0.95
_CLEAR = 25.0
# Standard errors by which mass must grow to count as the molecule's. Its own features, which differ from view to view,
# add to what noise does.
_SURE = 5.0
_MEASURED_BAND = 16.0
# How much wider than the molecule the sphere is that holds it.
_MARGIN = 1.05
_LIKELY_SHIFT = 0.08


class SphericalAverage(NamedTuple):
    """Radial density (R,) of a molecule at radii (R,) in pixels of the working box, in the sign of the images' CTF.

    inside_px: where 95 % of the mass lies inside. outer_px: where the mass ends, and the solvent or a neighbour begins.
    sign: of the mass, ±1. clarity: power of the average over what noise alone would give.
    """

    radius: Tensor
    density: Tensor
    inside_px: float
    outer_px: float
    sign: int
    clarity: float

    @property
    def clear(self) -> bool:
        """Whether the average is more than noise."""
        return self.clarity > _CLEAR


def spherical_average(images: WorkingImages, shift_px: float, n: int = 1000) -> SphericalAverage:
    """The round molecule that explains up to `n` images best, each moved by at most `shift_px`: EM over shifts alone.

    Its transform h(|k|) is real and radial, so that every image is compared with one template S h, of least squares
    Σ |C S h − y exp(2πi k·t/D)|²/σ². A Wiener filter takes off what is noise; ρ(r) = Σ 4π k² h(k) sinc(2 k r/D) / D³.
    """
    index = torch.linspace(0, len(images) - 1, min(n, len(images))).long()
    evidence = images.evidence(index, first_noise(images), images.box / 2 - 1)
    lattice = evidence.lattice
    shifts = shift_disc(shift_px, 1.0).to(images.device)
    back = shift_phases(lattice.k, -shifts, lattice.box)
    prior = shift_log_prior(shifts, shift_px)
    waves = _radial_waves(lattice.radius, images.box // 2)
    covariance = torch.linalg.inv((waves.T * evidence.power.mean(0)) @ waves)
    transform = covariance @ (waves.T @ evidence.weighted.real.mean(0))
    for _ in range(_ITERATIONS):
        weight = torch.softmax(2 * ((evidence.weighted * (waves @ transform)) @ back.T).real + prior, 1)
        transform = covariance @ (waves.T @ _centred_mean(evidence, weight, back))
    variance = covariance.diagonal() / (2 * len(index))
    excess = transform.square() / variance
    gain = (1 - 1 / excess.clamp(min=1e-12)).clamp(min=0)
    radius, wave = _waves(len(transform), images.box, images.device)
    inner = (wave * radius.square()[:, None]).cumsum(0)
    mass, error = inner @ (transform * gain), (inner.square() @ (variance * gain.square())).sqrt()
    # The mass inside of a radius wanders on in empty solvent: where it ends it must have grown beyond its error.
    end = int((mass.abs() - _SURE * error).argmax())
    inside = int(torch.nonzero(mass.abs() >= _INSIDE * mass[end].abs())[0, 0])
    sign, clarity = (1 if mass[end] >= 0 else -1), float(excess.max())
    density = wave @ (transform * gain)
    return SphericalAverage(radius, density, float(radius[inside]), float(radius[end]), sign, clarity)


def molecule_scope(settings: ScopeSettings, images: WorkingImages, symmetry: str) -> Scope:
    """The limits of a search whose bands and mask follow the molecule's size: as given, or as its images tell it."""
    scope = Scope.of(settings, images, symmetry)
    if settings.mask_diameter_angst is not None:
        return scope
    coarse = images.coarse(_MEASURED_BAND)
    scale = images.box / coarse.box
    found = spherical_average(coarse, scope.shift_px / scale)
    if not found.clear:
        return scope
    return scope.of_molecule(2 * found.inside_px * scale, _MARGIN * found.outer_px * scale)


def contrast_sign(particles: Particles) -> tuple[int, str]:
    """The factor ±1 that makes images agree with y = C · slice of a white molecule, 0 if undecided; and the evidence.

    It is the sign of the mass of the images' spherical average: a hollow molecule has it as well as a ball.
    Raises InputError if images are missing.
    """
    if len(particles) < 2:
        return 0, "undecided: one image is not enough"
    images = WorkingImages(particles).coarse(_MEASURED_BAND)
    found = spherical_average(images, _LIKELY_SHIFT * images.box)
    diameter = 2 * found.inside_px * images.pixel_size
    evidence = f"a round molecule {diameter:.0f} Å wide explains {found.clarity:.3g} times what noise would"
    return (found.sign if found.clear else 0), (evidence if found.clear else f"undecided: {evidence}")


def _centred_mean(evidence: Evidence, weight: Tensor, back: Tensor) -> Tensor:
    """Mean over images of `weighted`, real part (P,), moved back by all shifts with their weights (B, S)."""
    moved = weight.to(back.dtype) @ back
    return (evidence.weighted * moved).real.mean(0)


def _radial_waves(radius: Tensor, shells: int) -> Tensor:
    """What a radial transform with values at 1 … `shells` − 1 Fourier pixels is at any `radius` (P,): (P, shells − 1).

    A molecule that the box holds has a k h(k) that its whole numbers settle (Shannon): h(k) = Σ n/k h(n) (sinc(k − n)
    − sinc(k + n)). Means over shells are not these values: the first shells hold few coefficients, off their middle.
    The origin, where the mean grey value is not known, is left out.
    """
    n, k = torch.arange(1, shells, device=radius.device), radius[:, None]
    wave = n / k.clamp(min=0.5) * (torch.sinc(k - n) - torch.sinc(k + n))
    return torch.where(k > 0, wave, 0.0)


def _waves(shells: int, box: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Radii (R,) in half pixels up to half the box, and what each value of a transform adds to the density (R, K)."""
    radius = torch.arange(0, box // 2, 0.5, device=device)
    k = torch.arange(1, shells + 1, device=device)
    return radius, 4 * math.pi * k.square() * torch.sinc(2 * k * radius[:, None] / box) / box**3
