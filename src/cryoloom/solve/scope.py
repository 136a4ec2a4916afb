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
    """Point group (n, 3, 3), largest shift and radius of the molecule in pixels of the working box.

    diameter_px: of the molecule itself, which the radius of a mask may exceed; bands and angular steps follow it.
    """

    group: Tensor
    shift_px: float
    radius_px: float
    diameter_px: float

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
        diameter_px = diameter / images.pixel_size
        return cls(point_group(symmetry), shift / images.pixel_size, diameter_px / 2, diameter_px)

    def scaled(self, factor: float) -> "Scope":
        """The same limits in pixels that are 1/`factor` as wide."""
        return Scope(self.group, *(value * factor for value in self[1:]))

    def of_molecule(self, diameter_px: float, radius_px: float) -> "Scope":
        """The limits for a molecule of a measured diameter, within a sphere of `radius_px` or less."""
        return self._replace(radius_px=min(self.radius_px, radius_px), diameter_px=diameter_px)

    def band(self, cycles: float, box: int) -> float:
        """The band in Fourier pixels of a `box` at which the molecule is `cycles` resolution elements wide."""
        return cycles * box / self.diameter_px

    def cycles(self, band: float, box: int) -> float:
        """How many resolution elements wide the molecule is at a band in Fourier pixels: the inverse of `band`."""
        return band * self.diameter_px / box
