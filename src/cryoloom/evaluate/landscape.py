"""The landscape of a run's conformations: everything that `analyze` finds, and the files that it leaves."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoloom.data import Particles, read_particles, read_volume, write_volume
from cryoloom.data.files import existing, replacing
from cryoloom.errors import InputError
from cryoloom.evaluate.clusters import best_mixture, k_means, log_density, representatives
from cryoloom.evaluate.confounds import Confound, confounds, warnings_of
from cryoloom.evaluate.embedding import PCA, umap_of
from cryoloom.evaluate.flexibility import Flexibility, flexibility_of
from cryoloom.evaluate.traversal import along_axis
from cryoloom.solve.latents import Latents
from cryoloom.solve.trained import TrainedField, read_latents, trained_field

FOLDER = "analysis"
# Quick maps for looking at; `volumes` writes them in full.
BOX = 48
STEPS = 7
SAMPLES = 24
COMPONENTS_SHOWN = 8
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Landscape:
    """What an analysis left, read back.

    particles: one row a particle; clusters, paths: one row a map; maps: (n, D, D, D) of paths by axis, and of clusters;
    mean, variability: (D, D, D); summary: numbers and warnings.
    """

    particles: pd.DataFrame
    clusters: pd.DataFrame
    paths: pd.DataFrame
    summary: dict[str, Any]
    maps: dict[str, NDArray] = field(default_factory=dict)
    mean: NDArray | None = None
    variability: NDArray | None = None
    pixel_size: float = 1.0


def analyse(run: Path, clusters: int, seed: int, umap: bool, progress: Progress) -> list[dict[str, str]]:
    """Analyse the conformations of `run` and write run/analysis and run/volumes/conformations; returns the warnings.

    Raises InputError for a run without conformations, or whose particles are gone.
    """
    field, latents, particles = read_conformations(run)
    z = latents.mean.double().numpy()
    pca = PCA.of(z)
    table, centres = _table(z, pca, clusters, seed, umap, progress)
    found = confounds(pca.scores(z), particles, seed)
    folder = run / FOLDER
    _write_frame(folder / "particles.parquet", table)
    _write_clusters(run, field, z, table, centres, progress)
    axes = ["pc1", "pc2", "graph"] if z.shape[1] > 1 else ["pc1", "graph"]
    _write_paths(folder, field, z, axes, seed, progress)
    flexibility = _flexibility(field, z, seed, progress)
    _write_flexibility(folder, field, flexibility)
    warnings = warnings_of(found)
    summary = _summary(pca, table, found, flexibility, seed) | {"warnings": warnings}
    with replacing(folder / "summary.json") as part:
        part.write_text(json.dumps(summary, indent=2) + "\n")
    return warnings


def read_conformations(run: Path) -> tuple[TrainedField, Latents, Particles]:
    """The field, the latents and the particles of a run. Raises InputError where they do not belong together."""
    read_latents(run)
    particles = read_particles(existing(run / "particles.star", "run's particles: `cryoloom resume` writes them"))
    latents, trained = matched_latents(run, particles), trained_field(run)
    if latents.mean.shape[1] != trained.z_dim:
        raise InputError(
            f"{run}/latents.npz has {latents.mean.shape[1]} numbers a particle, but the run's z-dim is "
            f"{trained.z_dim}: put the run's own files back, or run it again."
        )
    return trained, latents, particles


def matched_latents(run: Path, particles: Particles) -> Latents:
    """The latents of a run, of as many particles as it has. Raises InputError where some are gone."""
    latents = read_latents(run)
    if len(latents.mean) != len(particles):
        raise InputError(
            f"{run}/latents.npz is of {len(latents.mean)} particles, but particles.star holds {len(particles)}: "
            "some are gone; put the run's own files back, or run it again."
        )
    return latents


def _table(
    z: NDArray, pca: PCA, clusters: int, seed: int, umap: bool, progress: Progress
) -> tuple[pd.DataFrame, NDArray]:
    """One row a particle: coordinates, clusters and components from 1, log density; and the clusters' centres."""
    steps = ("pca", "k-means", "mixture", "density", *(("umap",) if umap else ()))
    columns: dict[str, Any] = {"particle": np.arange(len(z))}
    progress("latents", 0, len(steps), steps[0])
    scores = pca.scores(z).astype(np.float32)
    columns |= {f"pc{i + 1}": scores[:, i] for i in range(scores.shape[1])}
    progress("latents", 1, len(steps), steps[1])
    centres, labels = k_means(z, clusters, seed)
    columns["cluster"] = (labels + 1).astype(np.int32)
    progress("latents", 2, len(steps), steps[2])
    columns["component"] = (best_mixture(z, COMPONENTS_SHOWN, seed).labels(z) + 1).astype(np.int32)
    progress("latents", 3, len(steps), steps[3])
    columns["density"] = log_density(z, seed).astype(np.float32)
    if umap:
        progress("latents", 4, len(steps), steps[4])
        columns |= dict(zip(("umap1", "umap2"), umap_of(z, seed).T, strict=True))
    progress("latents", len(steps), len(steps), "")
    return pd.DataFrame(columns), centres


def _write_clusters(
    run: Path, field: TrainedField, z: NDArray, table: pd.DataFrame, centres: NDArray, progress: Progress
) -> None:
    """The map at the particle nearest to each centre, in full, and the clusters' table."""
    rows = representatives(z, centres)
    sizes = np.bincount(table["cluster"], minlength=len(centres) + 1)[1:]
    numbers = {f"z{i + 1}": z[rows, i] for i in range(z.shape[1])}
    clusters = pd.DataFrame({"cluster": np.arange(1, len(rows) + 1), "particles": sizes, "particle": rows, **numbers})
    folder = run / "volumes" / "conformations"
    for old in folder.glob("cluster_*.mrc"):
        old.unlink()
    for i, row in enumerate(rows):
        volume = field.volume(torch.tensor(z[row], dtype=torch.float32))
        write_volume(folder / f"cluster_{i + 1:02d}.mrc", volume, field.pixel_size)
        progress("clusters", i + 1, len(rows), "")
    _write_frame(run / FOLDER / "clusters.parquet", clusters)


def _write_paths(folder: Path, field: TrainedField, z: NDArray, axes: list[str], seed: int, progress: Progress) -> None:
    """Small maps along each axis, and the table of their z."""
    frames = []
    for i, axis in enumerate(axes):
        points = along_axis(z, axis, STEPS, seed)
        volumes = _volumes(field, points, progress, "traversals", i * STEPS, len(axes) * STEPS)
        for step, volume in enumerate(volumes):
            write_volume(folder / axis / f"volume_{step:03d}.mrc", volume, _coarse_pixel(field, volume))
        numbers = {f"z{j + 1}": points[:, j] for j in range(z.shape[1])}
        frames.append(pd.DataFrame({"axis": axis, "step": np.arange(STEPS), **numbers}))
    _write_frame(folder / "paths.parquet", pd.concat(frames, ignore_index=True))


def _flexibility(field: TrainedField, z: NDArray, seed: int, progress: Progress) -> Flexibility:
    """Flexibility over maps at the particles nearest to some centres, weighted by the particles each stands for."""
    centres, labels = k_means(z, SAMPLES, seed)
    volumes = _volumes(field, z[representatives(z, centres)], progress, "flexibility", 0, len(centres))
    weights = np.bincount(labels, minlength=len(centres))
    return flexibility_of(torch.stack(volumes), torch.from_numpy(weights).float())


def _volumes(
    field: TrainedField, points: NDArray, progress: Progress, stage: str, done: int, total: int
) -> list[Tensor]:
    made = []
    for point in points:
        made.append(field.volume(torch.tensor(point, dtype=torch.float32), BOX))
        progress(stage, done + len(made), total, "")
    return made


def _coarse_pixel(field: TrainedField, volume: Tensor) -> float:
    return field.pixel_size * field.box / volume.shape[-1]


def _write_flexibility(folder: Path, field: TrainedField, found: Flexibility) -> None:
    pixel_size = _coarse_pixel(field, found.mean)
    write_volume(folder / "mean.mrc", found.mean, pixel_size)
    write_volume(folder / "variability.mrc", found.variability, pixel_size)
    for i, component in enumerate(found.components):
        write_volume(folder / f"volume_pc{i + 1}.mrc", component, pixel_size)


def _summary(
    pca: PCA, table: pd.DataFrame, found: list[Confound], flexibility: Flexibility, seed: int
) -> dict[str, Any]:
    return {
        "particles": len(table),
        "z_dim": len(pca.mean),
        "seed": seed,
        "latent_variance_explained": [round(float(v), 5) for v in pca.explained],
        "volume_variance_explained": [round(float(v), 5) for v in flexibility.explained],
        "clusters": len(np.unique(table["cluster"])),
        "mixture_components": len(np.unique(table["component"])),
        "explained_by": {
            c.name: {"whole": round(c.whole, 4), "components": [round(float(v), 4) for v in c.explained]} for c in found
        },
    }


def _write_frame(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


# Read back


def read_table(run: Path, n: int) -> pd.DataFrame | None:
    """The analysis of each of `n` particles, None where there is none. Raises InputError where it is of others."""
    path = run / FOLDER / "particles.parquet"
    if not path.is_file():
        return None
    table = pd.read_parquet(path)
    if len(table) != n:
        raise InputError(
            f"{path} is of {len(table)} particles, the run has {n}: `cryoloom analyze {run}` makes it again."
        )
    return table


def read_landscape(run: Path) -> Landscape | None:
    """The analysis of a run with its maps, None where there is none or an earlier command did not finish it."""
    folder = run / FOLDER
    if not (folder / "summary.json").is_file():
        return None
    paths = pd.read_parquet(folder / "paths.parquet")
    files = {axis: sorted((folder / str(axis)).glob("volume_*.mrc")) for axis in paths["axis"].unique()}
    files["clusters"] = sorted((run / "volumes" / "conformations").glob("cluster_*.mrc"))
    maps = {str(name): np.stack([read_volume(path)[0].numpy() for path in found]) for name, found in files.items()}
    mean, pixel_size = read_volume(folder / "mean.mrc")
    return Landscape(
        particles=pd.read_parquet(folder / "particles.parquet"),
        clusters=pd.read_parquet(folder / "clusters.parquet"),
        paths=paths,
        summary=json.loads((folder / "summary.json").read_text()),
        maps=maps,
        mean=mean.numpy(),
        variability=read_volume(folder / "variability.mrc")[0].numpy(),
        pixel_size=pixel_size,
    )
