"""What another run has found and a new one begins with: trained networks, noise, a mask."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from cryoloom.data.mrc import read_volume
from cryoloom.errors import InputError
from cryoloom.physics.fourier import resample_volume
from cryoloom.solve.run import Run


class Begun(NamedTuple):
    """Noise power per coefficient (D/2,) by shell and mask (D, D, D) of an earlier run, as far as it left them."""

    noise: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def of_run(cls, folder: Path | None, box: int) -> "Begun":
        """What the run in `folder` left for images of a box: noise if its box is the same, its mask in any case."""
        if folder is None:
            return cls()
        checkpoint = Run.open(folder).load_checkpoint(leads=False)
        states = checkpoint["states"].values() if checkpoint else ()
        found = [state["noise"] for state in states if isinstance(state, dict) and "noise" in state]
        noise = next((noise.cpu() for noise in found if 2 * len(noise) == box), None)
        mask = folder / "volumes" / "mask.mrc"
        return cls(noise, resample_volume(read_volume(mask)[0], box).clamp(0, 1) if mask.exists() else None)


NOTHING = Begun()


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
