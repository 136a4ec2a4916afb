"""Networks that another run has trained."""

from pathlib import Path
from typing import Any

from torch import nn

from cryoloom.errors import InputError
from cryoloom.solve.run import Run


def trained_parts(folder: Path) -> set[str]:
    """Names of the networks in the newest checkpoint of the run in `folder`; none where it trained none."""
    checkpoint = Run.open(folder).load_checkpoint(leads=False)
    return set(checkpoint["states"].get("parts", {})) if checkpoint else set()


def load_part(part: nn.Module, name: str, folder: Path) -> None:
    """Give `part` the weights that it has, as part `name`, in the newest checkpoint of the run in `folder`.

    Raises InputError where that run has no such network, or one of another shape.
    """
    run = Run.open(folder)
    checkpoint = run.load_checkpoint(leads=False)
    states: dict[str, Any] = checkpoint["states"] if checkpoint else {}
    weights = states.get("parts", {}).get(name)
    if weights is None:
        raise InputError(
            f"{folder} is a run of {run.config.system}, whose checkpoint holds no {name} network: "
            "give a run of a system that trains one, such as cryodrgn2."
        )
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"the {name} network in {folder} has other settings or another box than this run: give the same ones."
        ) from error
