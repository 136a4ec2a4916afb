"""A run's conformations against the true ones: latents, and the map of each particle."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoloom.data import Particles, read_particles
from cryoloom.data.mrc import read_volume
from cryoloom.errors import InputError
from cryoloom.evaluate.align import VolumeAlignment
from cryoloom.evaluate.coordinate import likeliest_volumes
from cryoloom.evaluate.fsc import fsc
from cryoloom.evaluate.latents import (
    conformation_correlation,
    fsc_area,
    information_imbalance,
    neighbour_accuracy,
)
from cryoloom.evaluate.maps import apply_to_volume
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
    paths = sorted((truth / "conformations").glob("*.mrc"))
    if not paths or not (run / "latents.npz").is_file():
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
    volumes = _Truth(paths, particles.box)
    result = _areas(run, which, volumes, placed)
    found = conformation_correlation(z, coordinate)
    possible = _oracle(particles, true_poses, volumes, coordinate, _coordinates(truth, len(paths)))
    return result | {
        "latent_neighbour_accuracy": neighbour_accuracy(z, coordinate),
        "conformation_correlation": found,
        "oracle_conformation_correlation": possible,
        "conformation_correlation_over_oracle": found / max(possible, 1e-6),
        "information_imbalance_latent_to_truth": information_imbalance(z, coordinate),
        "information_imbalance_truth_to_latent": information_imbalance(coordinate, z),
    }


class _Truth:
    """The true conformations at a working box."""

    def __init__(self, paths: list[Path], box: int):
        self.paths, self.box = paths, box

    def __len__(self) -> int:
        return len(self.paths)

    def __call__(self, i: int) -> Tensor:
        return resample_volume(read_volume(self.paths[i])[0], self.box)


def _coordinates(truth: Path, count: int) -> np.ndarray:
    listed = json.loads((truth / "truth.json").read_text())["conformations"]
    coordinates = np.array([entry["coordinate"] for entry in listed], dtype=float)
    if len(coordinates) != count:
        raise InputError(f"{truth}: truth.json names {len(coordinates)} conformations, the folder holds {count}.")
    return coordinates


def _areas(run: Path, which: np.ndarray, volumes: _Truth, placed: VolumeAlignment) -> dict[str, float]:
    """Mean area under the FSC of particles' maps with their own conformations, over particles and conformations."""
    decoder = Decoder.of_run(run)
    chosen = np.linspace(0, len(which) - 1, min(COMPARED, len(which))).astype(int)
    areas = np.empty(len(chosen))
    for i, particle in enumerate(chosen):
        found = apply_to_volume(
            decoder.volume(decoder.z[particle]), placed.rotation, placed.hand_flipped, placed.translation
        )
        areas[i] = fsc_area(fsc(found, volumes(int(which[particle])), decoder.trained.pixel_size).fsc.numpy())
    kinds = which[chosen]
    by_kind = [areas[kinds == kind].mean() for kind in np.unique(kinds)]
    return {
        "per_particle_fsc_auc_mean": float(areas.mean()),
        "per_conformation_fsc_auc_mean": float(np.mean(by_kind)),
    }


def _oracle(
    particles: Particles, true_poses: Pose, volumes: _Truth, coordinate: np.ndarray, coordinates: np.ndarray
) -> float:
    chosen = torch.linspace(0, len(particles) - 1, min(JUDGED, len(particles))).long()
    found = likeliest_volumes(particles.subset(chosen), true_poses.select(chosen), volumes, len(volumes))
    return conformation_correlation(coordinates[found.numpy()][:, None], coordinate[chosen.numpy()])
