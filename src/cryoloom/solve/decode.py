"""The maps that a finished run holds for its conformations."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoloom.data import Particles, read_particles
from cryoloom.data.files import existing
from cryoloom.errors import InputError
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.field import Field
from cryoloom.model.fields.settings import FieldSettings
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.run import Run
from cryoloom.solve.warm import load_part


@dataclass(frozen=True)
class Decoder:
    """The trained field of a run, its particles with their movies, and the latent mean (N, Z) of each."""

    field: Field
    particles: Particles
    mean: Tensor
    mask: Tensor
    sign: float

    @classmethod
    def of(cls, folder: Path) -> "Decoder":
        """Read a finished run. Raises InputError where it has no latents or no field of them."""
        run = Run.open(folder)
        latents = existing(Path(folder) / "latents.npz", "latents (of a run of cryodrgn or tempor, say)")
        with np.load(latents) as file:
            mean = torch.from_numpy(file["z_mean"])
        particles = read_particles(existing(Path(folder) / "particles.star", "run's particles"))
        box = run.config.box or particles.source_box
        settings = run.config.settings
        chosen = FieldSettings(**{name: settings[name] for name in FieldSettings.model_fields})
        field = build_field(chosen, box, torch.Generator(), mean.shape[1])
        load_part(field, "field", folder)
        field.requires_grad_(False)
        diameter = settings.get("mask_diameter_angst") or 0.9 * box * particles.with_box(box).pixel_size
        mask = soft_sphere(box, diameter / 2 / particles.with_box(box).pixel_size)
        contrast = next((line["contrast"] for line in run.metrics() if line.get("stage") == "results"), "black")
        return cls(field, particles.with_box(box), mean, mask, 1.0 if contrast == "black" else -1.0)

    def volume(self, z: Tensor) -> Tensor:
        """The map (D, D, D) of a conformation z (Z,), molecule positive, masked as the run's own map."""
        return self.sign * self.field.volume(None, z) * self.mask

    def movie(self, movie: str) -> Iterator[Tensor]:
        """The maps (D, D, D) of a movie's frames, in order. Raises InputError where there is no such movie."""
        movies = self.particles.movies()
        if movie not in movies:
            raise InputError(f"there is no movie {movie}: the run has {', '.join(list(movies)[:5])} …")
        return (self.volume(self.mean[row]) for row in movies[movie].tolist())
