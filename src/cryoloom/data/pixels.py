"""Pixels that cannot be right: outliers, which are replaced, and images of which nothing can be used."""

import math

import torch
from torch import Tensor

# How far from the median of its image an outlier lies, in standard deviations as all other pixels give them.
_FAR = 10.0
# A first look that costs little: an outlier stands out even among the standard deviations that it has raised itself.
_FIRST_LOOK = 5.0
# Outliers are at most one pixel in a hundred: what covers more is ice, gold or a molecule.
_SHARE = 0.01
# How much longer than in noise the tail of the grey values may be.
_LONGEST_TAIL = 2.0
# Share of the variance in the background below which an image is a molecule without noise.
_CLEAN = 0.25
# Below this part of the brightest pixel a background is rounding.
_ROUNDING = 1e-6
# Most images held in double precision at once: few enough for the caches of a CPU.
_HELD_TWICE = 16
# Replaced by the median of the pixels up to so far away.
_REACH = 2
# Beyond these the transform of an image does not fit into single precision.
_LARGEST, _SMALLEST = 1e30, 1e-30

FAULTS = (
    "",
    "holds values that are not finite",
    "has one value in every pixel",
    f"holds values beyond {_LARGEST:g}",
    f"holds values that differ by less than {_SMALLEST:g}",
)


def faults(images: Tensor) -> Tensor:
    """Why images (B, D, D) cannot be used, as numbers (B,) in `FAULTS`; 0 for nothing."""
    low, high = images.flatten(1).aminmax(dim=1)
    infinite = ~(low.isfinite() & high.isfinite())
    found = torch.where(high - low < _SMALLEST, 4, 0)
    found = found.masked_fill(torch.maximum(high, -low) > _LARGEST, 3)
    return found.masked_fill(low == high, 2).masked_fill(infinite, 1)


def noise_like(images: Tensor) -> Tensor:
    """Which (B,) of images (B, D, D) are noise everywhere, whatever one pixel in a hundred holds.

    Without noise a molecule stands out of an almost empty background, and a single bright pixel may be part of it.
    """
    flat, box = images.flatten(1).double(), images.shape[-1]
    deviation, tail = _deviations(flat)
    middle, share = deviation.median(1).values, _rank(flat.shape[1]) / flat.shape[1]
    even = tail < _LONGEST_TAIL * _quantile(share) / _quantile(0.5) * middle
    axis = torch.arange(box) - box // 2
    outside = (torch.hypot(axis[:, None].float(), axis.float()) > 0.45 * box).flatten()
    power = torch.where(deviation > tail[:, None], 0.0, deviation).square()
    everywhere = power[:, outside].mean(1) > _CLEAN * power.mean(1)
    return even & everywhere & (middle > _ROUNDING * deviation.amax(1))


def replace_outliers(images: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy images (B, D, D) with hot and dead pixels replaced by the median of those around, and how many (B,).

    An outlier is further from the image's median than 10 standard deviations of normal noise whose largest hundredth
    begins where the image's does. So neither a slope of the background nor a bright molecule makes outliers.
    """
    flat, box = images.flatten(1), images.shape[-1]
    count = torch.zeros(len(flat), dtype=torch.long)
    suspect = torch.nonzero(_reach(flat) > _FIRST_LOOK)[:, 0]
    if not len(suspect):
        return images, count
    values = flat[suspect].double()
    deviation, tail = _deviations(values)
    limit = _FAR / _quantile(_rank(flat.shape[1]) / flat.shape[1]) * tail[:, None]
    outlier = (deviation > limit) & (limit > 0)
    row, pixel = torch.nonzero(outlier, as_tuple=True)
    around = _around(pixel, box)
    near = values[row[:, None], around].masked_fill(outlier[row[:, None], around], math.nan).nanmedian(1).values
    values[row, pixel] = torch.where(near.isnan(), values.median(1).values[row], near)
    mended = flat.clone()
    mended[suspect] = values.float()
    count[suspect] = outlier.sum(1)
    return mended.view_as(images), count


def _reach(flat: Tensor) -> Tensor:
    """How far the furthest pixel of images (B, n) is from the mean, in standard deviations (B,)."""
    low, high = flat.aminmax(dim=1)
    found = []
    for part in flat.split(_HELD_TWICE):
        values = part.double()
        mean = values.mean(1)
        found.append(torch.stack([mean, torch.linalg.vector_norm(values - mean[:, None], dim=1)]))
    mean, norm = torch.cat(found, 1) if found else flat.new_zeros(2, 0)
    return torch.maximum(high - mean, mean - low) / (norm / flat.shape[1] ** 0.5)


def _around(pixel: Tensor, box: int) -> Tensor:
    """Pixels (M, 25) around each of `pixel` (M,), as places in a flat image; those at the edge count more than once."""
    step = torch.arange(-_REACH, _REACH + 1)
    y = (pixel[:, None] // box + step).clamp(0, box - 1)
    x = (pixel[:, None] % box + step).clamp(0, box - 1)
    return (y[:, :, None] * box + x[:, None, :]).flatten(1)


def _deviations(flat: Tensor) -> tuple[Tensor, Tensor]:
    """|x − median| (B, n) of images (B, n), and where the largest hundredth of it begins (B,)."""
    deviation = (flat - flat.median(1, keepdim=True).values).abs()
    n = flat.shape[1]
    return deviation, deviation.kthvalue(n + 1 - _rank(n), 1).values


def _rank(pixels: int) -> int:
    """One more than the outliers that an image may have."""
    return math.ceil(_SHARE * pixels) + 1


def _quantile(share: float) -> float:
    """What |x| exceeds in `share` of cases, x normal with variance 1."""
    return float(torch.special.ndtri(torch.tensor(1 - share / 2, dtype=torch.float64)))
