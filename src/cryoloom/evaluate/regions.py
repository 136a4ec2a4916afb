"""How well maps of flexible regions agree with what truly moves."""

from pathlib import Path

from torch import Tensor

from cryoloom.data.files import existing
from cryoloom.data.mrc import read_volume
from cryoloom.errors import InputError
from cryoloom.evaluate.heterogeneity import TrueConformations

# Of the largest density of any conformation: voxels below it hold no molecule.
_DENSE = 0.1


def true_variability(conformations: Tensor) -> tuple[Tensor, Tensor]:
    """Per-voxel standard deviation (D, D, D) of true maps (K, D, D, D), and where any of them has density."""
    mask = conformations.amax(0) > _DENSE * conformations.max()
    return conformations.std(0, correction=0), mask


def agreement(found: Tensor, true: Tensor, mask: Tensor) -> float:
    """Pearson correlation of two maps (D, D, D) inside a mask; 0 where one of them is constant there."""
    a, b = (volume[mask].double() - volume[mask].double().mean() for volume in (found, true))
    norms = float(a.norm() * b.norm())
    return float(a @ b) / norms if norms > 0 else 0.0


def agreements_of(run: Path, truth: Path) -> dict[str, float]:
    """Agreement of a run's flexibility.mrc and attention_*.mrc with the true standard deviation, by name.

    The poses of the run must be those of the truth, as they are when they were given. Raises InputError where maps
    are missing.
    """
    first = existing(run / "volumes" / "flexibility.mrc", "map of flexible regions (of system cryoformer)")
    paths = [first, *sorted((run / "volumes").glob("attention_*.mrc"))]
    true = TrueConformations.of(truth, read_volume(first)[0].shape[-1])
    if len(true) < 2:
        raise InputError(f"{truth}: no true conformations; give the truth folder of a set with several.")
    spread, mask = true_variability(true.stacked())
    return {path.stem: agreement(read_volume(path)[0], spread, mask) for path in paths}
