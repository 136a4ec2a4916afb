"""The schedule of cryoDRGN2: pretraining at random poses, searches while the band marches, reset, refinement."""

from typing import Any

from pydantic import BaseModel, Field

from cryoloom.errors import InputError
from cryoloom.model.poses.search import SearchSettings
from cryoloom.solve.stages import Stage


class MarchSettings(BaseModel, extra="forbid"):
    """Stages of a fit with pose search: how many images and passes each has, and how the band grows."""

    pretrain_images: int = Field(default=5000, gt=0, description="Images at random poses that the field starts from.")
    rounds: int = Field(default=60, ge=0, description="Searches while the band marches.")
    first_images: int = Field(default=500, gt=1, description="Images drawn and searched in the first round.")
    last_images: int = Field(default=1500, gt=1, description="Images drawn and searched in the last round.")
    reuse: int = Field(default=1, gt=0, description="Passes over the images of a search before the next search.")
    march_rate: float = Field(default=3e-4, gt=0, description="Learning rate of the field while the band marches.")
    first_band: float = Field(default=5.0, gt=2, description="Band of the first search, Fourier pixels.")
    last_band: float = Field(default=16.0, gt=2, description="Band of the last round's search, Fourier pixels.")
    reset: bool = Field(default=True, description="Begin the field anew, poses kept, before it trains at full band.")
    full_passes: int = Field(default=2, ge=0, description="Passes over all images at full band after the marching.")
    refinements: int = Field(
        default=2, ge=0, description="Last searches at full band with polishing, each followed by training."
    )
    refine_passes: int = Field(default=1, ge=0, description="Passes over all images after each of the last searches.")
    polish_steps: int = Field(default=4, ge=0, description="Newton steps in rotation and shift of the last searches.")
    batch_size: int = Field(default=32, gt=0, description="Images of a gradient step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the field at full band, by Adam.")


def march(settings: MarchSettings, search: SearchSettings, box: int) -> list[Stage]:
    """The stages from nothing, for images of a `box`. Raises InputError for a band that would shrink."""
    s, full = settings, box / 2 - 1
    first, last = min(s.first_band, full), min(s.last_band, full)
    if first > last:
        raise InputError(
            f"the march would go from band {s.first_band:g} down to {s.last_band:g}: make march.first-band the smaller."
        )
    train = {"train": ("field",), "batch_size": s.batch_size, "lr": s.march_rate}
    stages = [Stage("pretrain", 1, "random", band=first, images=s.pretrain_images, **train)]
    for i in range(s.rounds):
        part = i / max(s.rounds - 1, 1)
        band = first + (last - first) * part
        images = round(s.first_images * (s.last_images / s.first_images) ** part)
        stages.append(Stage("march", s.reuse, "search", band=band, images=images, search=search.at_band(band), **train))
    stages.append(Stage("align", 0, "search", band=last, search=search.at_band(last), **train))
    return stages + full_band(s, search, box)


def full_band(settings: MarchSettings, search: SearchSettings, box: int) -> list[Stage]:
    """The stages after all particles have a pose: train anew at full band; search once more with polishing, train."""
    stages = [_training(settings, "train", settings.full_passes, box, reset=settings.reset)]
    if settings.refinements:
        full = box / 2 - 1
        bands = {"first_band": min(search.first_band, full), "last_band": min(search.last_band or full, full)}
        found = {"poses": "search", "search": search.model_copy(update=bands), "polish_steps": settings.polish_steps}
        stages += [_training(settings, "refine", settings.refine_passes, box, **found)] * settings.refinements
        stages.append(_training(settings, "refine", 1, box, lr=0.2 * settings.learning_rate))
    return stages


def at_poses(settings: MarchSettings, box: int, refine: bool) -> list[Stage]:
    """The stages at poses that are given; with `refine` they are polished against the field, which then trains on."""
    stages = [_training(settings, "train", settings.full_passes, box)]
    if refine:
        steps = settings.polish_steps
        stages.append(_training(settings, "refine", settings.refine_passes, box, poses="polish", polish_steps=steps))
    return [*stages, _training(settings, stages[-1].name, 1, box, lr=0.2 * settings.learning_rate)]


def _training(settings: MarchSettings, name: str, epochs: int, box: int, **more: Any) -> Stage:
    # Rounding off the field needs many small steps; and small batches of many points are as fast as large ones.
    size = max(1, settings.batch_size // 2)
    given = {"poses": "stored", "lr": settings.learning_rate, **more}
    return Stage(name, epochs, train=("field",), band=box / 2 - 1, batch_size=size, **given)
