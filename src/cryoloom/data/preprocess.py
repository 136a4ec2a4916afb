"""What every method does to images first: normalise, window, measure the noise, check the sign of the contrast.

The sign. Our image formation is y = C · slice with C = −sin χ, so C = −w at zero frequency, and a white (positive)
molecule gives an image that is dark at low frequency, as a microscope records it. RELION multiplies by +sin χ: its own
projections with CTF (`relion_project`) correlate with ours at −0.99, and extracted particles, inverted to white, at the
published poses with −0.2. So images by RELION's habit, which is cryoSPARC's and cryoDRGN's too, have to be multiplied
by −1 before C applies. `solve.em.spherical.contrast_sign` finds that factor from the images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.physics.fourier import FrequencyLattice

# Radii of the round test molecules, as parts of the box: what is picked fills a fifth to four fifths of it.
_TEST_RADII = (0.1, 0.2, 0.3, 0.4)
_DECIDED_AT = 4.0
_BATCH = 256
# Most images held in double precision at once: few enough for the caches of a CPU.
_HELD_TWICE = 16
# Share of the variance in the background below which it is not noise.
_CLEAN = 0.25
# Images of which too few are there to tell chance from scatter.
_FEW = 20


def _radii(box: int) -> Tensor:
    axis = torch.arange(box, dtype=torch.float32) - box // 2
    return torch.hypot(axis[:, None], axis[None, :])


@dataclass(frozen=True)
class Scale:
    """How images are brought to one scale: deviation typical^(1 − trust) · own^trust, own being that of the background.

    A small box has so few pixels of background that their deviation scatters by chance, and what differs most between
    images would be their scale. `trust` is the part of that scatter which is the images' own; 0: one number for all.
    tilt: the same of the slopes of the background, which are taken off as far as they are not chance.
    clean: images without noise, of which the background says nothing at all.
    """

    typical: float
    trust: float
    tilt: float = 1.0
    clean: bool = False


def normalise(images: Tensor, radius_px: float, scale: Scale | None = None) -> Tensor:
    """Images (B, D, D) with the plane through their background taken off, divided by the deviation that `scale` says.

    The background is outside the circle of `radius_px`; without a `scale` its standard deviation is taken as it is.
    Where it is constant that of the whole image is used, and where that is zero too the image is left at zero. Clean
    images keep their background. Raises InputError if hardly any pixel is outside.
    """
    if scale is not None and scale.clean:
        return images / scale.typical
    centred, unit = _to_unit(images)
    level, outside, _ = _levelled(centred, radius_px, scale.tilt if scale is not None else 1.0)
    deviation, whole = level[:, outside].std(1), level.std(1)
    deviation = torch.where(deviation > 1e-3 * whole, deviation, whole)
    varies = deviation > 1e-6 * centred.flatten(1).abs().amax(1)
    if scale is not None:
        # Of a batch the last powers in single precision round unlike the others.
        own = (deviation.double() * unit) ** scale.trust
        deviation = (scale.typical ** (1 - scale.trust) * own / unit).float()
    return torch.where(varies[:, None], level / deviation[:, None], 0.0).view_as(images)


def _to_unit(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, D, D) less their mean in units (B,), the powers of two next to their deviation, and these units.

    Grey values of 1e5 that differ in the seventh digit, or squares of 1e20, do not fit into single precision.
    """
    done = torch.empty_like(images)
    units = images.new_ones(len(images), dtype=torch.float64)
    for part, into, unit in zip(*(x.split(_HELD_TWICE) for x in (images, done, units)), strict=True):
        values = part.flatten(1).double()
        values -= values.mean(1, keepdim=True)
        deviation = torch.linalg.vector_norm(values, dim=1) / values.shape[1] ** 0.5
        unit.copy_(torch.ldexp(unit, torch.frexp(deviation).exponent))
        into.copy_(values.div_(unit[:, None]).view_as(part))
    return done, units


def _levelled(images: Tensor, radius_px: float, tilt: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, D²) without the mean of their background and `tilt` of its slopes, and its pixels (D²,).

    Also the squares of the slopes, (B, 2): those that white noise alone would have, and those that they have.
    """
    box = images.shape[-1]
    outside = (_radii(box) > radius_px).flatten().to(images.device)
    if int(outside.sum()) < 8:
        raise InputError(f"a particle radius of {radius_px:g} px leaves no background in a box of {box}.")
    axis = torch.linspace(-1, 1, box, device=images.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    plane = torch.stack([torch.ones_like(x), x, y], -1).flatten(0, 1)
    flat = images.flatten(1)
    # Uneven ice and illumination tilt the background; a tilt looks like signal at the lowest frequencies.
    fitting = torch.linalg.pinv(plane[outside])
    background = flat[:, outside]
    # A matrix product rounds by how many images there are, and a spectrum must not depend on what it was read with.
    slope = torch.stack([(background * row).sum(1) for row in fitting], 1)
    left = background - _planes(slope, plane[outside])
    squares = torch.stack([left.var(1) * fitting[1:].square().sum(), slope[:, 1:].square().sum(1)], 1)
    return flat - _planes(slope * slope.new_tensor([1, tilt, tilt]), plane), outside, squares


def _planes(slope: Tensor, plane: Tensor) -> Tensor:
    """Planes (B, n) of B slopes (B, 3) at the places (n, 3)."""
    return slope[:, :1] * plane[:, 0] + slope[:, 1:2] * plane[:, 1] + slope[:, 2:] * plane[:, 2]


def measure_scale(particles: Particles, radius_px: float, n: int = 500) -> Scale:
    """The scale of a set by up to `n` of its images; radius_px: of the circle outside of which is background.

    Two halves of the background measure each image's deviation twice; what both agree on is the image's own:
    trust = cov(log s₁, log s₂) / var((log s₁ + log s₂)/2). Slopes are compared with those of white noise. Images hardly
    any of whose variance lies in the background are without noise.
    """
    index = torch.linspace(0, len(particles) - 1, min(n, len(particles))).long()
    found, background, whole, chances = [], [], [], []
    for rows in index.split(_BATCH):
        images, unit = _to_unit(particles.clean_images(rows)[0])
        level, outside, squares = _levelled(images, radius_px)
        by_chance, slopes = (squares * unit[:, None] ** 2).unbind(1)
        chances.append(by_chance / slopes.mean().clamp(min=1e-300))
        # Opposite corners against the other two: noise of neighbouring pixels is alike without being the image's own.
        axis = torch.arange(particles.box) - particles.box // 2
        corner = ((axis[:, None] < 0) ^ (axis < 0)).flatten()
        deviations = torch.stack([level[:, outside & half].std(1) for half in (corner, ~corner)], 1)
        found.append(deviations * unit[:, None])
        background.append(images.flatten(1)[:, outside].var(1) * unit**2)
        whole.append(images.flatten(1).var(1) * unit**2)
    variance = float(torch.cat(whole).mean())
    if float(torch.cat(background).mean()) < _CLEAN * variance:
        return Scale(variance**0.5, 0.0, 0.0, clean=True)
    pairs = torch.cat(found)
    pairs = pairs[(pairs > 1e-6 * pairs.max()).all(1)].log()
    if len(pairs) < _FEW:
        return Scale(1.0, 1.0)
    covariance = torch.cov(pairs.T)
    trust = float(covariance[0, 1] / covariance.mean().clamp(min=1e-12))
    tilt = 1 - float(torch.cat(chances).mean())
    return Scale(float(pairs.mean().exp()), min(max(trust, 0.0), 1.0), min(max(tilt, 0.0), 1.0))


def soft_circle(box: int, radius_px: float, edge_px: float) -> Tensor:
    """Window (D, D): 1 within `radius_px` of the centre, a cosine edge of `edge_px`, then 0."""
    part = ((_radii(box) - radius_px) / max(edge_px, 1e-6)).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(torch.pi * part)


def sample_rows(particles: Particles, n: int) -> np.ndarray:
    """At most `n` rows spread evenly over the particles."""
    return np.unique(np.linspace(0, len(particles) - 1, min(n, len(particles))).round().astype(int))


def radial_noise_spectrum(particles: Particles, n: int = 1000, radius_px: float | None = None) -> Tensor:
    """Mean noise power (box/2,), |coefficient|² of an image's unnormalised transform, at 0 … box/2 − 1 Fourier pixels.

    Measured on up to `n` images whose disc of `radius_px` (0.45 · box without it) is masked out, and rescaled by the
    share of pixels that is left. Raises InputError if images are missing or the disc fills them.
    """
    box = particles.box
    radius_px = 0.45 * box if radius_px is None else radius_px
    window = 1 - soft_circle(box, radius_px, min(5.0, box / 16))
    share = float(window.square().mean())
    if share < 0.02:
        raise InputError(f"{particles.source}: a particle radius of {radius_px:g} px leaves no background.")
    lattice = FrequencyLattice.of_box(box)
    total, count = torch.zeros(lattice.n_shells, dtype=torch.float64), 0
    sample = particles.subset(sample_rows(particles, n))
    for start in range(0, len(sample), _BATCH):
        images, unit = _to_unit(sample.clean_images(slice(start, start + _BATCH))[0])
        # The background's mean is no noise; its window would smear it over the lowest shells.
        mean = (images * window).sum((-2, -1), keepdim=True) / window.sum()
        power = lattice.spectrum((images - mean) * window).abs().square().double() * unit[:, None] ** 2
        total += lattice.shell_mean(power.sum(0))
        count += len(images)
    spectrum = (total / count / share).float()
    if len(spectrum) > 2:
        # The window hides the zero frequency: its shell takes the next one's value.
        spectrum[0] = spectrum[1]
    return spectrum
