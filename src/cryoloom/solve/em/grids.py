"""How finely orientations are searched: grids that follow the resolution, the diameter and the symmetry."""

from torch import Tensor

from cryoloom.model.poses.search import SearchSettings
from cryoloom.physics.so3 import RotationGrid
from cryoloom.solve.scope import Scope

STEPS = (15.0, 7.5, 3.75)
# A grid is tried as a whole with at most as many rotations in the asymmetric unit as 15° has without symmetry.
_MOST_ROTATIONS = 4608
# Below it every molecule is a ball, and the base grid tells all that there is.
_LEAST_CYCLES = 4.0
# The base grid of the hierarchical search only chooses candidates and may blur them; the last level must not.
_BASE_CYCLES_DEGREES, _FINEST_CYCLES_DEGREES = 110.0, 20.0


def finest_step(group: Tensor) -> float:
    """The finest grid spacing in degrees at which all orientations of a point group (n, 3, 3) can be tried."""
    sizes = ((step, len(RotationGrid.with_spacing(step)) / len(group)) for step in STEPS)
    return min(step for step, size in sizes if size <= _MOST_ROTATIONS)


def search_settings(scope: Scope, box: int, band: float, candidates: int) -> SearchSettings:
    """The hierarchical search for a map known to `band` px: angles as fine as it can tell, the base grid at 0.6 of it.

    The base grid is the finest that is tried as a whole, and goes as far as its angles allow.
    """
    step = finest_step(scope.group)
    first = min(max(0.6 * band, scope.band(_LEAST_CYCLES, box)), scope.band(_BASE_CYCLES_DEGREES / step, box), band)
    levels, finest = 0, step
    while finest * scope.cycles(band, box) > _FINEST_CYCLES_DEGREES and levels < 4:
        levels, finest = levels + 1, finest / 2
    return SearchSettings(angle_step=step, candidates=candidates, subdivisions=levels, first_band=first, last_band=band)
