"""How long `analyze` takes on very many latents, which are made up: the time does not depend on what the maps show."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cryoloom.data import read_particles, write_star, write_volume
from cryoloom.evaluate.bench.result import goal
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.model.fields.build import build_field
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.conformed import ConformationSettings
from cryoloom.solve.latents import Latents
from cryoloom.solve.results import latent_columns, write_latents
from cryoloom.solve.run import Run, RunConfig

PIXEL_SIZE = 3.0


@dataclass(frozen=True)
class Sizes:
    """Particles, dimensions of z, and box of a made-up run."""

    particles: int = 100_000
    z_dim: int = 8
    box: int = 64


def landscape(book: Notebook) -> None:
    """The whole command, from its start to the report, without UMAP."""
    s = book.sizes
    if not (book.bench.folder / "run").exists():
        make_run(book.bench.folder / "run", s.particles, s.z_dim, s.box)
    measured = book.bench.cryoloom("run/analysis", "analyze", "run", "--no-umap")
    what = f"analyze, {s.particles:,} latents of {s.z_dim} dimensions, box {s.box}"
    book.row(f"{what}: wall", measured.seconds, "s", **goal(60, 20, "lower"))
    book.row(f"{what}: peak memory", measured.memory_gb, "GB")
    book.notes.append(
        "Latents on a curve and in three groups, random poses, a field of the default size with random weights; what "
        "is drawn, clustered and decoded is all that the command does, but UMAP."
    )


def made_up_latents(n: int, z_dim: int, generator: torch.Generator) -> torch.Tensor:
    """Latents (N, Z): two thirds on a curve through the space, one third in three groups."""
    t = torch.rand(n, 1, generator=generator) * 3
    z = torch.cos(t * torch.arange(1, z_dim + 1) * 0.5) * 2
    third = n // 3
    group = torch.randint(3, (third,), generator=generator)
    z[:third] = 4 * torch.randn(3, z_dim, generator=generator)[group]
    return z + 0.3 * torch.randn(n, z_dim, generator=generator)


def make_run(folder: Path, n: int, z_dim: int, box: int) -> Path:
    """A finished run of cryodrgn with made-up latents and random weights."""
    generator = torch.Generator().manual_seed(0)
    settings = ConformationSettings.model_validate({"z_dim": z_dim})
    source = folder.parent / "particles.star"
    write_source(source, n, box)
    config = RunConfig(particles=source, system="cryodrgn", settings=settings.model_dump(mode="json"))
    run = Run.create(folder, config)
    field = build_field(settings, box, generator, z_dim)
    run.save_checkpoint(1, {"step": 1, "states": {"parts": {"field": field.state_dict()}}})
    write_volume(folder / "volumes" / "volume.mrc", field.volume(None, torch.zeros(z_dim)), PIXEL_SIZE)
    z = made_up_latents(n, z_dim, generator)
    latents = Latents(z, torch.full_like(z, -2.0))
    write_latents(folder / "latents.npz", latents)
    pose = Pose.single(random_rotations(n, generator), torch.randn(n, 2, generator=generator))
    write_star(folder / "particles.star", read_particles(source), pose=pose, columns=latent_columns(latents))
    run.record(stage="results", contrast="black", sign=-1)
    # A run is finished once its report is there; the command writes another.
    (folder / "report.html").touch()
    return folder


def write_source(path: Path, n: int, box: int) -> None:
    """A STAR file of n particles whose images nobody has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    defocus = np.random.default_rng(0).uniform(8000, 20000, n)
    labels = (
        "ImageName",
        "DefocusU",
        "DefocusV",
        "DefocusAngle",
        "Voltage",
        "SphericalAberration",
        "AmplitudeContrast",
    )
    header = "\n".join(f"_rln{label}" for label in (*labels, "ImagePixelSize", "ImageSize"))
    rows = "\n".join(
        f"{i + 1:06d}@none.mrcs {d:.1f} {d:.1f} 0 300 2.7 0.1 {PIXEL_SIZE} {box}" for i, d in enumerate(defocus)
    )
    path.write_text(f"data_images\n\nloop_\n{header}\n{rows}\n")


TABLE = Table(
    name="analyze",
    title="Landscapes of many particles",
    about="`cryoloom analyze` on a run of many particles.",
    parts={"landscape": landscape},
    scales={"mini": Sizes(), "quick": Sizes(2000, 2, 32)},
)
