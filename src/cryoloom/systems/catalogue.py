"""The published systems and ours: one line each; a system joins by adding its recipe here."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from cryoloom.errors import InputError
from cryoloom.systems import cryoai, cryodrgn, cryodrgn2, cryoposenet, hetem, loom, pose_gd, pose_vae


@dataclass(frozen=True)
class System:
    """One entry: what it is, where it was published, its settings and the function that runs it."""

    name: str
    summary: str
    paper: str
    settings: type[BaseModel]
    reconstruct: Callable[..., None]


SYSTEMS: dict[str, System] = {
    "loom": System("loom", loom.SUMMARY, "cryoloom", loom.LoomSettings, loom.reconstruct),
    "cryodrgn": System("cryodrgn", cryodrgn.SUMMARY, cryodrgn.PAPER, cryodrgn.CryodrgnSettings, cryodrgn.reconstruct),
    "cryodrgn2": System(
        "cryodrgn2", cryodrgn2.SUMMARY, cryodrgn2.PAPER, cryodrgn2.Cryodrgn2Settings, cryodrgn2.reconstruct
    ),
    "hetem": System("hetem", hetem.SUMMARY, hetem.PAPER, hetem.HetemSettings, hetem.reconstruct),
    "cryoai": System("cryoai", cryoai.SUMMARY, cryoai.PAPER, cryoai.CryoAISettings, cryoai.reconstruct),
    "cryoposenet": System(
        "cryoposenet",
        cryoposenet.SUMMARY,
        cryoposenet.PAPER,
        cryoposenet.CryoPoseNetSettings,
        cryoposenet.reconstruct,
    ),
    "pose-gd": System("pose-gd", pose_gd.SUMMARY, pose_gd.PAPER, pose_gd.PoseGDSettings, pose_gd.reconstruct),
    "pose-vae": System("pose-vae", pose_vae.SUMMARY, pose_vae.PAPER, pose_vae.PoseVAESettings, pose_vae.reconstruct),
}


def find_system(name: str) -> System:
    """The system called `name`. Raises InputError with the names there are."""
    if name not in SYSTEMS:
        raise InputError(f"there is no system {name!r}: choose one of {', '.join(SYSTEMS)} (see `cryoloom systems`).")
    return SYSTEMS[name]
