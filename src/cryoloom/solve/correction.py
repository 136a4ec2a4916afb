"""The schedule that corrects coarse poses: the field learns at them, and they are polished at its map."""

from typing import Any

from pydantic import BaseModel, Field

from cryoloom.solve.gradual import GradualSettings
from cryoloom.solve.stages import Stage


class CorrectionSettings(BaseModel, extra="forbid"):
    """Rounds in which poses and one volume for all particles correct each other, from a low band to the highest."""

    rounds: int = Field(
        default=8,
        ge=0,
        description="Rounds that correct poses at the volume itself; 0: the orientation encoder does it, as published.",
    )
    first_band: float = Field(
        default=4.0,
        gt=2,
        description="Band of the first round, Fourier pixels: the coarser the poses, the lower.",
    )
    steps: int = Field(default=6, gt=0, description="Newton steps in rotation and shift of each round.")


def corrected(settings: CorrectionSettings, train: GradualSettings, box: int) -> list[Stage]:
    """The field at z = 0 learns at stored poses; in each round they are polished at its map, and it learns on."""
    last = min(train.last_band, box / 2 - 1)
    first = min(settings.first_band, last)
    given: dict[str, Any] = {"train": ("field",), "batch_size": train.batch_size, "lr": train.learning_rate}
    given |= {"z": "none", "noise": train.noise}
    stages = [Stage("correction", 1, "stored", band=first, **given)]
    for i in range(settings.rounds):
        band = first + (last - first) * i / max(settings.rounds - 1, 1)
        stages.append(Stage("correction", 1, "polish", band=band, polish_steps=settings.steps, **given))
    return stages
