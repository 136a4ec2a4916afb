"""Seconds that `cryoloom analyze` takes on made-up latents of very many particles.

`python benchmarks/analyze_speed.py -o DIR [--particles 100000] [--z-dim 8] [--box 64]` makes a finished run in DIR/run
(latents on a curve and in three groups, poses, a field of the default size with random weights), runs the command as a
user would, without UMAP, and writes DIR/analyze_speed.json. The time does not depend on what the maps show.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from cryoloom.cli.main import run as run_command
from cryoloom.data import read_particles, write_star, write_volume
from cryoloom.evaluate.bench.machine import code_commit, machine
from cryoloom.model.fields.build import build_field
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.results import Latents, latent_columns, write_latents
from cryoloom.solve.run import Run, RunConfig
from cryoloom.systems.cryodrgn import CryodrgnSettings

PIXEL_SIZE = 3.0
MUST, AIM = 60.0, 20.0


def main() -> None:
    """Make the run, time the command, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder for the run and the result")
    parser.add_argument("--particles", type=int, default=100_000)
    parser.add_argument("--z-dim", type=int, default=8)
    parser.add_argument("--box", type=int, default=64)
    arguments = parser.parse_args()
    run = make_run(arguments.output / "run", arguments.particles, arguments.z_dim, arguments.box)
    begun, cpu = time.monotonic(), time.process_time()
    # The command ends its process when all is well, too.
    try:
        run_command(["analyze", str(run), "--no-umap"])
    except SystemExit as ended:
        if ended.code:
            raise
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    result = {
        "machine": machine("cpu"),
        "threads": torch.get_num_threads(),
        "commit": code_commit(),
        "particles": arguments.particles,
        "z_dim": arguments.z_dim,
        "box": arguments.box,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "must": MUST,
        "aim": AIM,
    }
    path = arguments.output / "analyze_speed.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


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
    settings = CryodrgnSettings(z_dim=z_dim)
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
    run.record(stage="results", contrast="black")
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


if __name__ == "__main__":
    main()
