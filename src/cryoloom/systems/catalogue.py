"""The published systems and ours: one line each; a system joins by adding its recipe here."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from torch import nn

from cryoloom.errors import InputError
from cryoloom.solve.amortised import amortised_parts
from cryoloom.systems import (
    cryoai,
    cryodrgn,
    cryodrgn2,
    cryoformer,
    cryoposenet,
    hetem,
    loom,
    pose_gd,
    pose_vae,
    tempor,
)


@dataclass(frozen=True)
class System:
    """One entry: what it is, where it was published, its settings and the function that runs it.

    parts: what rebuilds its networks, where those can read poses off particles that they never saw. uses: which of the
    options "symmetry" and "refine" change what it does.
    """

    name: str
    summary: str
    paper: str
    settings: type[BaseModel]
    reconstruct: Callable[..., None]
    parts: Callable[..., dict[str, nn.Module]] | None = None
    uses: tuple[str, ...] = ()

    def refuse_unused(self, symmetry: str, refine: bool) -> None:
        """Raise InputError where an option is given that would change nothing."""
        if symmetry != "C1" and "symmetry" not in self.uses:
            raise InputError(
                f"--symmetry {symmetry}: {self.name} fits a map without symmetry. Leave it out, or take --system "
                f"loom, which uses it; the poses that it finds can be given to {self.name} with --poses."
            )
        if refine and "refine" not in self.uses:
            names = ", ".join(system.name for system in SYSTEMS.values() if "refine" in system.uses)
            raise InputError(
                f"--refine: {self.name} does not polish poses that are given; leave it out, or take {names}."
            )


def _system(
    name: str, recipe: ModuleType, settings: type[BaseModel], parts: Any = None, uses: tuple[str, ...] = ()
) -> System:
    return System(name, recipe.SUMMARY, recipe.PAPER, settings, recipe.reconstruct, parts, uses)


_ALL = (
    _system("loom", loom, loom.LoomSettings, uses=("symmetry", "refine")),
    _system("cryoai", cryoai, cryoai.CryoAISettings, amortised_parts),
    _system("cryodrgn", cryodrgn, cryodrgn.CryodrgnSettings),
    _system("cryodrgn2", cryodrgn2, cryodrgn2.Cryodrgn2Settings, uses=("refine",)),
    _system("cryoformer", cryoformer, cryoformer.CryoFormerSettings, uses=("refine",)),
    _system("cryoposenet", cryoposenet, cryoposenet.CryoPoseNetSettings, amortised_parts),
    _system("hetem", hetem, hetem.HetemSettings),
    _system("tempor", tempor, tempor.TemporSettings),
    _system("pose-gd", pose_gd, pose_gd.PoseGDSettings),
    _system("pose-vae", pose_vae, pose_vae.PoseVAESettings, amortised_parts),
)
SYSTEMS: dict[str, System] = {system.name: system for system in _ALL}


def find_system(name: str) -> System:
    """The system called `name`. Raises InputError with the names there are."""
    if name not in SYSTEMS:
        raise InputError(f"there is no system {name!r}: choose one of {', '.join(SYSTEMS)} (see `cryoloom systems`).")
    return SYSTEMS[name]
