"""What limits every fit: how far particles lie off centre, how large the molecule is, its symmetry and contrast."""

from typing import Literal, NamedTuple

from pydantic import BaseModel, Field
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.physics.so3 import point_group
from cryoloom.solve.images import WorkingImages


class ScopeSettings(BaseModel, extra="forbid"):
    """Limits in Å, and the contrast of the molecule in the images."""

    max_shift_angst: float | None = Field(None, gt=0, description="Largest shift searched, Å; else 8 % of the box.")
    mask_diameter_angst: float | None = Field(
        default=None, gt=0, description="Diameter of the molecule, Å; else 90 % of the box."
    )
    contrast: Literal["auto", "white", "black"] = Field(
        default="auto",
        description="Molecule in the images: white (RELION), black (as recorded), or judged by the map and reported.",
    )


class Scope(NamedTuple):
    """Point group (n, 3, 3), largest shift and radius of the molecule in pixels of the working box."""

    group: Tensor
    shift_px: float
    radius_px: float

    @classmethod
    def of(cls, settings: ScopeSettings, images: WorkingImages, symmetry: str) -> "Scope":
        """The limits for some images. Raises InputError where they exceed the box."""
        field_angst = images.box * images.pixel_size
        shift = settings.max_shift_angst or 0.08 * field_angst
        diameter = settings.mask_diameter_angst or 0.9 * field_angst
        for name, value in (("max-shift-angst", 2 * shift), ("mask-diameter-angst", diameter)):
            if value > field_angst:
                given = value / 2 if name.startswith("max") else value
                raise InputError(f"--{name} {given:g} does not fit images {field_angst:g} Å wide: give a smaller one.")
        return cls(point_group(symmetry), shift / images.pixel_size, diameter / 2 / images.pixel_size)
