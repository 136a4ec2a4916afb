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

    Its transform is real and radial, h(|k|) = Σ C Re(y exp(2πi k·t/D))/σ² / Σ C²/σ² per shell, so that every image is
    compared with one template. A Wiener filter takes off what is noise; ρ(r) = Σ 4π k² h(k) sinc(2 k r/D) / D³.
    """
    index = torch.linspace(0, len(images) - 1, min(n, len(images))).long()
    evidence = images.evidence(index, first_noise(images), images.box / 2 - 1)
    lattice = evidence.lattice
    shifts = shift_disc(shift_px, 1.0).to(images.device)
    back = shift_phases(lattice.k, -shifts, lattice.box)
    prior = shift_log_prior(shifts, shift_px)
    power = lattice.shell_mean(evidence.power.mean(0)).clamp(min=1e-12)
    transform = lattice.shell_mean(evidence.weighted.real.mean(0)) / power
    for _ in range(_ITERATIONS):
        template = lattice.from_shells(transform)
        weight = torch.softmax(2 * ((evidence.weighted * template) @ back.T).real + prior, 1)
        transform = lattice.shell_mean(_centred_mean(evidence, weight, back)) / power
    count = torch.bincount(lattice.shell, minlength=lattice.n_shells)[: lattice.n_shells].clamp(min=1)
    variance = 1 / (2 * len(index) * power * count)
    excess = transform.square() / variance
    transform = transform * (1 - 1 / excess.clamp(min=1e-12)).clamp(min=0)
    # The mean grey value is not known: the lowest shell stands in for it, and carries no weight in the integral.
    radius, density = _density(transform, images.box)
    mass = (density * radius.square()).cumsum(0)
    end = int(mass.abs().argmax())
    inside = int(torch.nonzero(mass.abs() >= _INSIDE * mass[end].abs())[0, 0])
    sign, clarity = (1 if mass[end] >= 0 else -1), float(excess[1:].max())
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


def _density(transform: Tensor, box: int) -> tuple[Tensor, Tensor]:
    """Radii (R,) in half pixels up to half the box, and the density (R,) of a radial transform (D/2,)."""
    radius = torch.arange(0, box // 2, 0.5, device=transform.device)
    k = torch.arange(len(transform), device=transform.device)
    wave = torch.sinc(2 * k * radius[:, None] / box)
    return radius, (4 * math.pi * k.square() * transform * wave).sum(1) / box**3
