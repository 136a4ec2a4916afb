"""The schedule of fits without search: the field is prepared, then everything learns together while the band grows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, Field

from cryoloom.errors import InputError
from cryoloom.solve.stages import Noise, Poses, Stage


class GradualSettings(BaseModel, extra="forbid"):
    """Passes over all images, from a low band to a high one."""

    prepare_passes: int = Field(
        default=1, ge=0, description="Passes that train the field alone beforehand, at poses that are given or random."
    )
    passes: int = Field(default=10, gt=0, description="Passes over all images in which poses and field learn together.")
    first_band: float = Field(default=8.0, gt=2, description="Band of the first pass, Fourier pixels.")
    last_band: float = Field(default=16.0, gt=2, description="Band of the last pass, Fourier pixels.")
    images: int | None = Field(
        default=None, gt=0, description="Images drawn anew for each pass in which all learns; all of them by default."
    )
    keep_maps: bool = Field(default=False, description="Write the map after each pass, volumes/pass_1.mrc and so on.")
    batch_size: int = Field(default=32, gt=0, description="Images of a gradient step.")
    coefficients: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Part of its images' Fourier coefficients that a gradient step compares, drawn anew for each; the "
        "lowest are always among them.",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Of the field, by Adam.")
    last_rate: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Learning rates of the last pass, as parts of the first's; with learnt poses they fall in the "
        "second half.",
    )
    noise: Noise = Field(
        default="shells", description="Weight of the squares: by the noise of each shell, or white (the same for all)."
    )


def prepare(settings: GradualSettings, poses: Poses, box: int) -> Stage:
    """The stage that trains the field alone, at `poses` "random" or "stored"."""
    band = settings.first_band if poses == "random" else settings.last_band
    return _stage(settings, "prepare", settings.prepare_passes, poses, ("field",), min(band, box / 2 - 1))


def together(settings: GradualSettings, rates: Mapping[str, float], box: int, fade: float = math.inf) -> list[Stage]:
    """The passes in which the field and the parts in `rates` learn at the model's poses, and the poses at the end.

    fade: part of the passes over which the penalty of the part for poses goes to nothing. Raises InputError for a band
    that would shrink.
    """
    bands = _bands(settings, box)
    train, stages = ("field", *rates), []
    for i, band in enumerate(bands):
        # Poses find their basin at full rates; what is left is the noise of the steps.
        part = max(0.0, 2 * i / max(len(bands) - 1, 1) - 1)
        penalty = max(0.0, 1 - i / (fade * len(bands)))
        stage = _stage(settings, "train", 1, "model", train, band, penalty=penalty, **_pass(settings, i))
        stages.append(slowed(stage, rates, settings.last_rate**part))
    return [*stages, _stage(settings, "poses", 0, "infer", (), bands[-1])]


def towards_given(settings: GradualSettings, passes: int, rate: float, box: int) -> list[Stage]:
    """The stage in which the part for poses learns to say what its penalty asks for, before any image is predicted."""
    band = min(settings.first_band, box / 2 - 1)
    return [_stage(settings, "poses-first", passes, "prior", ("poses",), band, rates={"poses": rate})]


def at_known(
    settings: GradualSettings,
    box: int,
    rates: Mapping[str, float] | None = None,
    betas: Sequence[float] | None = None,
) -> list[Stage]:
    """The same passes at poses that are known, with the field and the parts in `rates`; betas: the KL's weights."""
    rates, bands = rates or {}, _bands(settings, box)
    betas = betas or [1.0] * len(bands)
    train, stages = ("field", *rates), []
    for i, (band, beta) in enumerate(zip(bands, betas, strict=True)):
        stage = _stage(settings, "train", 1, "stored", train, band, beta=beta, **_pass(settings, i))
        stages.append(slowed(stage, rates, settings.last_rate ** (i / max(len(bands) - 1, 1))))
    return stages


def _pass(settings: GradualSettings, number: int) -> dict[str, Any]:
    return {"images": settings.images, "map_name": f"pass_{number + 1}" if settings.keep_maps else ""}


def slowed(stage: Stage, rates: Mapping[str, float], part: float) -> Stage:
    """The stage at a part of its own learning rate and of `rates`."""
    return replace(stage, lr=stage.lr * part, rates={name: rate * part for name, rate in rates.items()})


def _bands(settings: GradualSettings, box: int) -> list[float]:
    s, full = settings, box / 2 - 1
    first, last = min(s.first_band, full), min(s.last_band, full)
    if first > last:
        raise InputError(
            f"the band would go from {s.first_band:g} down to {s.last_band:g}: make train.first-band the smaller."
        )
    return [first + (last - first) * i / max(s.passes - 1, 1) for i in range(s.passes)]


def _stage(
    settings: GradualSettings, name: str, epochs: int, poses: Poses, train: tuple[str, ...], band: float, **more: Any
) -> Stage:
    more = {"noise": settings.noise, "coefficients": settings.coefficients, **more}
    return Stage(name, epochs, poses, train, band, settings.batch_size, settings.learning_rate, **more)
