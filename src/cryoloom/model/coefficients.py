"""Which Fourier coefficients of its images a gradient step compares, where it does not compare them all."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor


class DrawnCoefficients(NamedTuple):
    """Some of P coefficients: which (Q,), in order, and how often each counts (Q,), 1 over its chance to be drawn.

    Sums over them are, in the mean over draws, those over all P (Horvitz & Thompson 1952).
    """

    kept: Tensor
    weight: Tensor

    @classmethod
    def of(cls, radius: Tensor, part: float, generator: Generator) -> "DrawnCoefficients":
        """About part · P of the coefficients of radius (P,), as many from each shell as far as it has them.

        The chance of one is min(1, r₀ / r): there are few of low frequency, which tell most. Draws differ by one in
        their number at most (systematic sampling). The origin, which counts nothing, is always first.
        """
        chance = _chances(radius, part)
        place = chance.cumsum(0) + torch.rand(1, generator=generator)
        # A chance of 1 always moves the floor, and rounding must not lose it.
        kept = (place.floor().diff(prepend=place.new_zeros(1)) > 0) | (chance >= 1)
        index = torch.nonzero(kept)[:, 0]
        return cls(index, 1 / chance[index])

    def to(self, device: torch.device) -> "DrawnCoefficients":
        """The same on a device."""
        return DrawnCoefficients(self.kept.to(device), self.weight.to(device))


def _chances(radius: Tensor, part: float) -> Tensor:
    """min(1, r₀ / r) (P,) of sorted radii, r₀ such that their sum is part · P."""
    r = radius[1:]
    # With the first m of them certain, r₀ Σ 1/r over the rest is what is left of the sum.
    left = max(part * len(radius), 2.0) - 1 - torch.arange(len(r))
    limit = left / (1 / r).flip(0).cumsum(0).flip(0)
    certain = torch.nonzero(limit < r)
    r0 = limit[certain[0, 0]] if len(certain) else r[-1]
    return torch.cat([torch.ones(1), (r0 / r).clamp(max=1)])
