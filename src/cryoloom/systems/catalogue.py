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

    parts: what rebuilds its networks, where those can read poses off particles that they never saw.
    """

    name: str
    summary: str
    paper: str
    settings: type[BaseModel]
    reconstruct: Callable[..., None]
    parts: Callable[..., dict[str, nn.Module]] | None = None


def _system(name: str, recipe: ModuleType, settings: type[BaseModel], parts: Any = None) -> System:
    return System(name, recipe.SUMMARY, recipe.PAPER, settings, recipe.reconstruct, parts)


_ALL = (
    _system("loom", loom, loom.LoomSettings),
    _system("cryoai", cryoai, cryoai.CryoAISettings, amortised_parts),
    _system("cryodrgn", cryodrgn, cryodrgn.CryodrgnSettings),
    _system("cryodrgn2", cryodrgn2, cryodrgn2.Cryodrgn2Settings),
    _system("cryoformer", cryoformer, cryoformer.CryoFormerSettings),
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
