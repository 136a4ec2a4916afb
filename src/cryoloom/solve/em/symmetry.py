"""The point group that a map has of itself, found from rotations that leave it as it is."""

import torch
from torch import Tensor

from cryoloom.physics.so3 import angular_distance
from cryoloom.solve.em.pseudosymmetry import Copies

# As far apart as two measurements of one rotation may be, degrees.
_SAME_DEG = 6.0
_LARGEST = 60
# Share of what the data can tell at all to which a turned map must agree with itself to be called symmetric.
_EXACT = 0.95


def exact_symmetry(copies: Copies, agreement: float) -> str | None:
    """Name of the point group of rotations that leave a map as it is as far as its half-maps tell, or None.

    agreement: FSC of the half-maps over the shells that the correlation of copies is a mean of. A map correlates with
    itself turned by an exact symmetry as it would with a second map of the same quality, 2 FSC / (1 + FSC).
    """
    expected = 2 * agreement / (1 + agreement)
    exact = copies.rotation[copies.correlation > _EXACT * expected]
    return point_group_name(exact) if len(exact) else None


def point_group_name(rotations: Tensor) -> str | None:
    """Name of the smallest point group, whatever its axes, that holds rotations (n, 3, 3); None if there is none."""
    group = [torch.eye(3), *rotations.unbind(0)]
    grown = True
    while grown:
        grown = False
        for a in list(group):
            for b in list(group):
                product = a @ b
                if float(angular_distance(torch.stack(group), product).min()) > 2 * _SAME_DEG:
                    group.append(product)
                    grown = True
                if len(group) > _LARGEST:
                    return None
    angle = angular_distance(torch.stack(group), torch.eye(3))
    folds = [round(360 / float(a)) for a in angle[1:] if abs(360 / float(a) - round(360 / float(a))) < 0.2]
    return _name(len(group), folds)


def _name(order: int, folds: list[int]) -> str | None:
    highest = max(folds, default=1)
    if order == 12 and folds.count(3) == 8:
        return "T"
    if order == 24 and folds.count(4) == 6:
        return "O"
    if order == 60:
        return "I"
    if order == highest:
        return f"C{order}"
    return f"D{highest}" if order == 2 * highest else None
