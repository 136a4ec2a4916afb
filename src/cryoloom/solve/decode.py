"""The volumes that a finished run's field gives for any conformation."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryoloom.data import Particles, read_particles
from cryoloom.data.files import existing
from cryoloom.data.mrc import read_volume
from cryoloom.errors import InputError
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.field import Field
from cryoloom.model.fields.settings import FieldSettings
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.run import Run
from cryoloom.solve.warm import load_part


class Decoder(NamedTuple):
    """A trained field, the mask (D, D, D) that its maps are multiplied by and their sign; pixel_size in Å.

    z: (N, Z) of the run's particles, which are there with their movies.
    """

    field: Field
    mask: Tensor
    sign: float
    pixel_size: float
    z: Tensor
    particles: Particles

    @classmethod
    def of_run(cls, folder: Path) -> "Decoder":
        """The decoder of a finished run. Raises InputError where the run has no conformations."""
        run = Run.open(folder)
        if not (folder / "latents.npz").is_file():
            raise InputError(
                f"{folder} is a run of {run.config.system} without conformations: it has no latents.npz; "
                "give a finished run of cryodrgn, say."
            )
        volume, pixel_size = read_volume(existing(folder / "volumes" / "volume.mrc", "run's map"))
        particles = read_particles(existing(folder / "particles.star", "run's particles"))
        with np.load(folder / "latents.npz") as file:
            z = torch.from_numpy(file["z_mean"])
        settings, box = run.config.settings, volume.shape[-1]
        named = {name: settings[name] for name in FieldSettings.model_fields if name in settings}
        field = build_field(FieldSettings(**named), box, torch.Generator(), z.shape[1])
        load_part(field, "field", folder)
        field.requires_grad_(False)
        diameter = settings.get("mask_diameter_angst") or 0.9 * box * pixel_size
        ends = [line for line in run.metrics() if line.get("stage") == "results"]
        sign = 1.0 if ends and ends[-1].get("contrast") == "black" else -1.0
        mask = soft_sphere(box, diameter / 2 / pixel_size)
        return cls(field, mask, sign, pixel_size, z, particles.with_box(box))

    def volume(self, z: Tensor) -> Tensor:
        """The map (D, D, D) of a conformation z (Z,), the molecule positive. Raises InputError for another Z."""
        if len(z) != self.z.shape[1]:
            raise InputError(f"a conformation of this run has {self.z.shape[1]} numbers, not {len(z)}.")
        return self.sign * self.field.volume(z=z.float()) * self.mask

    def movie(self, movie: str) -> Iterator[Tensor]:
        """The maps (D, D, D) of a movie's frames, in order. Raises InputError where there is no such movie."""
        movies = self.particles.movies()
        if movie not in movies:
            raise InputError(f"there is no movie {movie}: the run has {', '.join(list(movies)[:5])} …")
        return (self.volume(self.z[row]) for row in movies[movie].tolist())
