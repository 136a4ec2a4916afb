"""What a finished run says of its particles' conformations: a map for every one of them, and movies of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from cryoloom.data import Particles, read_particles
from cryoloom.data.files import existing
from cryoloom.errors import InputError
from cryoloom.solve.trained import TrainedField, read_latents, trained_field


class Decoder(NamedTuple):
    """A trained field, and the particles of its run with their conformations z (N, Z)."""

    trained: TrainedField
    z: Tensor
    particles: Particles

    @classmethod
    def of_run(cls, folder: Path) -> "Decoder":
        """The decoder of a finished run. Raises InputError where the run has no conformations."""
        z, trained = read_latents(folder).mean, trained_field(folder)
        particles = read_particles(existing(folder / "particles.star", "run's particles"))
        return cls(trained, z, particles.with_box(trained.box))

    def volume(self, z: Tensor) -> Tensor:
        """The map (D, D, D) of a conformation z (Z,), the molecule positive. Raises InputError for another Z."""
        return self.trained.volume(z)

    def movie(self, movie: str) -> Iterator[Tensor]:
        """The maps (D, D, D) of a movie's frames, in order. Raises InputError where there is no such movie."""
        movies = self.particles.movies()
        if movie not in movies:
            raise InputError(f"there is no movie {movie}: the run has {', '.join(list(movies)[:5])} …")
        return (self.volume(self.z[row]) for row in movies[movie].tolist())
