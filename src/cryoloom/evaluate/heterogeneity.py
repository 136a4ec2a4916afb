"""A run's conformations against the true ones: latents, and the map of each particle."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoloom.data import Particles, read_particles
from cryoloom.data.mrc import read_volume
from cryoloom.errors import InputError
from cryoloom.evaluate.clusters import k_means
from cryoloom.evaluate.coordinate import likeliest_volumes
from cryoloom.evaluate.fsc import fsc
from cryoloom.evaluate.latents import (
    adjusted_rand_index,
    area_under_roc,
    conformation_correlation,
    fsc_area,
    information_imbalance,
    neighbour_accuracy,
)
from cryoloom.physics.alignment import VolumeAlignment
from cryoloom.physics.fourier import resample_volume
from cryoloom.physics.pose import Pose
from cryoloom.solve.decode import Decoder

# Each of these particles has its map made and compared with its own conformation.
COMPARED = 100
# The oracle looks at no more particles than this: its correlation is then known to about 0.01.
JUDGED = 2000


def heterogeneity(
    run: Path, truth: Path, particles: Particles, true_poses: Pose, placed: VolumeAlignment, rows: Tensor
) -> dict[str, float]:
    """The numbers of evaluation.json on conformations; none where the run or the truth has only one.

    particles: the run's, at its box; true_poses: theirs; placed: how the run's map lies on the true one; rows (N,) of
    the truth's table that are theirs. Raises InputError for latents of other particles.
    """
    volumes = TrueConformations.of(truth, particles.box)
    if not len(volumes) or not (run / "latents.npz").is_file():
        return {}
    kept = np.load(run / "latents.npz")
    z = kept["z_mean"]
    if len(z) != len(particles):
        raise InputError(
            f"{run / 'latents.npz'} holds {len(z)} latents and the run's particles.star {len(particles)} particles: "
            "give a run whose files were left as they were."
        )
    table = read_particles(truth / "particles.star")
    which = table.column("conformation")[rows.numpy()].astype(int)
    coordinate = table.column("conformation_coordinate")[rows.numpy()].astype(float)
    result = _junk(particles, which < 0)
    there = np.flatnonzero(which >= 0)
    z, which, coordinate = z[there], which[there], coordinate[there]
    particles, true_poses = particles.subset(there), true_poses.select(torch.from_numpy(there))
    decoder = Decoder.of_run(run)

    def volume(chosen: int) -> Tensor:
        return placed.apply(decoder.volume(torch.from_numpy(z[chosen]).to(decoder.z)))

    result |= fsc_areas(volume, which, volumes)
    _, labels = k_means(z.astype(float), len(volumes), 0)
    found = conformation_correlation(z, coordinate)
    possible = _oracle(particles, true_poses, volumes, coordinate, _coordinates(truth, len(volumes)))
    return result | {
        "conformation_adjusted_rand_index": adjusted_rand_index(labels, which),
        "latent_neighbour_accuracy": neighbour_accuracy(z, coordinate),
        "conformation_correlation": found,
        "oracle_conformation_correlation": possible,
        "conformation_correlation_over_oracle": found / max(possible, 1e-6),
        "information_imbalance_latent_to_truth": information_imbalance(z, coordinate),
        "information_imbalance_truth_to_latent": information_imbalance(coordinate, z),
    }


class TrueConformations:
    """The true conformations at a working box."""

    def __init__(self, paths: list[Path], box: int):
        self.paths, self.box = paths, box

    @classmethod
    def of(cls, truth: Path, box: int) -> "TrueConformations":
        """Those of a simulation's truth folder."""
        return cls(sorted((truth / "conformations").glob("*.mrc")), box)

    def __len__(self) -> int:
        return len(self.paths)

    def __call__(self, i: int) -> Tensor:
        return resample_volume(read_volume(self.paths[i])[0], self.box)

    def stacked(self) -> Tensor:
        """All of them, (K, D, D, D)."""
        return torch.stack([self(i) for i in range(len(self))])


def _coordinates(truth: Path, count: int) -> np.ndarray:
    listed = json.loads((truth / "truth.json").read_text())["conformations"]
    coordinates = np.array([entry["coordinate"] for entry in listed], dtype=float)
    if len(coordinates) != count:
        raise InputError(f"{truth}: truth.json names {len(coordinates)} conformations, the folder holds {count}.")
    return coordinates


def _junk(particles: Particles, junk: np.ndarray) -> dict[str, float]:
    """How well the run's scores tell images without a particle; nothing where there are none, or no scores."""
    score = particles.column("junk_score")
    return {"junk_auc": area_under_roc(score, junk)} if junk.any() and len(score) else {}


def compared(n: int) -> np.ndarray:
    """Rows of the particles whose maps are compared."""
    return np.linspace(0, n - 1, min(COMPARED, n)).astype(int)


def fsc_areas(volume: Callable[[int], Tensor], which: np.ndarray, truth: Callable[[int], Tensor]) -> dict[str, float]:
    """Mean area under the FSC of particles' maps with their own conformations, over particles and conformations.

    volume: of a particle, truth: of a conformation, (D, D, D); which: (N,) the conformation of each particle.
    """
    chosen = compared(len(which))
    areas = np.array([fsc_area(fsc(volume(i), truth(int(which[i])), 1.0).fsc.numpy()) for i in chosen])
    kinds = which[chosen]
    by_kind = [areas[kinds == kind].mean() for kind in np.unique(kinds)]
    return {
        "per_particle_fsc_auc_mean": float(areas.mean()),
        "per_conformation_fsc_auc_mean": float(np.mean(by_kind)),
    }


def _oracle(
    particles: Particles, true_poses: Pose, volumes: TrueConformations, coordinate: np.ndarray, coordinates: np.ndarray
) -> float:
    chosen = torch.linspace(0, len(particles) - 1, min(JUDGED, len(particles))).long()
    found = likeliest_volumes(particles.subset(chosen), true_poses.select(chosen), volumes, len(volumes))
    return conformation_correlation(coordinates[found.numpy()][:, None], coordinate[chosen.numpy()])
