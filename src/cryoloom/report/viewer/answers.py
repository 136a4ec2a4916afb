"""What the interactive page asks for: particles to draw, and the map, slices and pose of one of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoloom.data import Particles, read_particles, read_volume
from cryoloom.data.files import existing
from cryoloom.errors import InputError
from cryoloom.evaluate.embedding import PCA, random_rows
from cryoloom.evaluate.landscape import read_conformations, read_table
from cryoloom.evaluate.maps import surface_level
from cryoloom.physics.so3 import euler_from_matrix
from cryoloom.report.figures import isosurface, map_images
from cryoloom.solve.trained import TrainedField

POINTS = 20_000
# Maps are asked for by clicks: quick ones.
BOX = 64
TRIANGLES = 20_000


class Answers:
    """A run, read once. Raises InputError where it has no particles or no map."""

    def __init__(self, run: Path):
        self.run = run
        self.volume, self.pixel_size = read_volume(existing(run / "volumes" / "volume.mrc", "run's map"))
        self.field: TrainedField | None = None
        self.particles: Particles
        if (run / "latents.npz").is_file():
            self.field, latents, self.particles = read_conformations(run)
            self.z: NDArray = latents.mean.double().numpy()
        else:
            self.particles = read_particles(existing(run / "particles.star", "run's particles"))
            self.z = np.zeros((len(self.particles), 0))
        self.table = read_table(run, len(self.particles))

    def points(self) -> dict[str, Any]:
        """Up to 20,000 particles: rows, coordinates by name, and what they can be coloured by."""
        rows = random_rows(len(self.particles), POINTS, 0)
        coordinates, colours = self._coordinates(rows), {}
        if self.table is not None:
            shown = self.table.iloc[rows]
            colours = {name: _plain(shown[name]) for name in ("cluster", "component", "density") if name in shown}
            coordinates |= {name: _plain(shown[name]) for name in ("umap1", "umap2") if name in shown}
        for name in ("defocus_u", "rotation_sigma_deg", "max_posterior", "half_set"):
            if name in self.particles.table and np.isfinite(self.particles.column(name)).all():
                colours[name] = _plain(self.particles.column(name)[rows])
        return {
            "particles": rows.tolist(),
            "coordinates": coordinates,
            "colours": colours,
            "total": len(self.particles),
        }

    def _coordinates(self, rows: NDArray) -> dict[str, list[float]]:
        """Principal components of the latents; without any, where each particle looked from."""
        if self.z.shape[1]:
            scores = PCA.of(self.z).scores(self.z[rows])
            found = {f"pc{i + 1}": _plain(scores[:, i]) for i in range(scores.shape[1])}
            return found if len(found) > 1 else found | {"z1": _plain(self.z[rows, 0])}
        if self.particles.rotation is None:
            raise InputError(f"{self.run} has neither conformations nor poses: there is nothing to draw.")
        degrees = euler_from_matrix(torch.from_numpy(self.particles.rotation[rows]).double()).numpy()
        return {"rot (°)": _plain(degrees[:, 0]), "tilt (°)": _plain(degrees[:, 1]), "psi (°)": _plain(degrees[:, 2])}

    def map(self, particle: int | None) -> dict[str, Any]:
        """The map of a particle's conformation, None for the run's own: surface, slices, projections, and its pose.

        Raises InputError for a particle that is not there.
        """
        if particle is not None and not 0 <= particle < len(self.particles):
            raise InputError(f"there is no particle {particle}: the run has 0 to {len(self.particles) - 1}.")
        volume, pixel_size = self.volume, self.pixel_size
        if particle is not None and self.field is not None:
            volume = self.field.volume(torch.tensor(self.z[particle], dtype=torch.float32), BOX)
            pixel_size = self.field.pixel_size * self.field.box / volume.shape[-1]
        array = volume.numpy()
        vertices, faces = isosurface(array, surface_level(array), pixel_size, TRIANGLES)
        return {
            "vertices": np.round(vertices, 2).T.tolist(),
            "faces": faces.T.tolist(),
            "images": [image for row in map_images(array).values() for image in row],
            "facts": self._facts(particle),
        }

    def _facts(self, particle: int | None) -> list[tuple[str, str]]:
        """Name and value of what is known of a particle, of the run without one."""
        if particle is None:
            return [("particles", f"{len(self.particles):,}")]
        facts = [("particle", f"{particle}")]
        facts += [(f"z{i + 1}", f"{value:.4g}") for i, value in enumerate(self.z[particle])]
        if self.particles.rotation is not None:
            rotation = torch.from_numpy(self.particles.rotation[particle][None]).double()
            angles = euler_from_matrix(rotation)[0]
            facts.append(("rot, tilt, psi", ", ".join(f"{float(a):.1f}°" for a in angles)))
            shift = [self.particles.column(f"shift_{axis}")[particle] for axis in "xy"]
            facts.append(("shift", ", ".join(f"{s:.2f} Å" for s in shift)))
        if self.particles.has_ctf:
            facts.append(("defocus", f"{self.particles.column('defocus_u')[particle]:.0f} Å"))
        if self.table is not None:
            row = self.table.iloc[particle]
            facts += [(name, f"{int(row[name])}") for name in ("cluster", "component")]
        facts.append(("image", Path(str(self.particles.table["image_file"].iat[particle])).name))
        return facts


def _plain(values: Any) -> list[Any]:
    """Numbers for JSON, None for what is none."""
    return [round(float(v), 5) if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]
