"""Speed of the positional MLP: points/s by precision, and images/s of training beside cryodrgn's `train_nn`.

`python benchmarks/field_throughput.py TRUTH/particles.star -o DIR [--peer /path/to/cryodrgn] [--images 500]`: particles
with their true poses, as `cryoloom simulate` writes them. Both programs train 3 x 256 at full band from the same files;
the time is that of an epoch, without reading and starting. The numbers go to DIR/field_throughput.json.
"""

import argparse
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cryoloom.data import Particles, read_particles, write_stack
from cryoloom.data.cryodrgn import write_pickles
from cryoloom.evaluate.bench.machine import code_commit, machine
from cryoloom.model.fields.mlp import MLPField, MLPSettings
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.amplitude import signal_amplitude
from cryoloom.solve.fit import ComputeSettings, Fit
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.run import Run, RunConfig
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.session import Session
from cryoloom.solve.stages import Stage
from cryoloom.solve.team import Team

SECONDS = 5.0
OUR_BATCH, PEER_BATCH = 16, 16
_FINISHED = re.compile(r"Finished in (\d+):(\d+):([\d.]+)")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path, help="STAR file with true poses")
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder for runs and results")
    parser.add_argument("--peer", type=Path, help="the cryodrgn command; left out: only ours is measured")
    parser.add_argument("--images", type=int, default=500, help="images of an epoch")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    arguments.output.mkdir(parents=True)
    particles = read_particles(arguments.particles).subset(slice(0, arguments.images))
    result: dict[str, Any] = {"machine": machine(device.type), "commit": code_commit(), "box": particles.box}
    result["threads"] = torch.get_num_threads()
    result["points_per_s"] = dict(points_per_second(particles.box, device))
    result["images_per_s"] = {
        f"cryoloom, {name}": ours(particles, arguments.output / name.replace(" ", "-"), device, compute)
        for name, compute in COMPUTE.items()
    }
    if arguments.peer:
        for name, options in PEER.items():
            folder = arguments.output / f"peer-{name}"
            speed = peers(arguments.peer, particles, folder, options)
            result["images_per_s"][f"cryodrgn train_nn, {name}"] = speed
    text = json.dumps(result, indent=1)
    (arguments.output / "field_throughput.json").write_text(text + "\n")
    print(text)


COMPUTE = {
    "f32": ComputeSettings(precision="f32"),
    "f32 compiled": ComputeSettings(precision="f32", compile=True),
    "bf16": ComputeSettings(precision="bf16"),
    "bf16 compiled": ComputeSettings(precision="bf16", compile=True),
}
PEER = {"default": [], "f32": ["--no-amp"]}


def points_per_second(box: int, device: torch.device) -> Iterator[tuple[str, float]]:
    """Points/s of the field forward and backward, full slices of a batch, for each way to compute."""
    generator = torch.Generator().manual_seed(0)
    k = FrequencyLattice.of_box(box, device).prefix(box / 2 - 1).k
    rotations = random_rotations(OUR_BATCH, generator)[:, None].to(device)
    for name, compute in COMPUTE.items():
        field = MLPField(box, MLPSettings(), generator).to(device)
        if compute.compile:
            field.compile_network()
        calls, started = -3, time.monotonic()
        while calls < 1 or time.monotonic() - started < SECONDS:
            if calls == 0:
                _wait(device)
                started = time.monotonic()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=compute.precision == "bf16"):
                slices = field.slices(rotations, k)
            slices.abs().square().sum().backward()
            calls += 1
        _wait(device)
        yield name, round(calls * OUR_BATCH * len(k) / (time.monotonic() - started))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ours(particles: Particles, folder: Path, device: torch.device, compute: ComputeSettings) -> float:
    """Images/s of the second of two epochs at known poses and full band."""
    run = Run.create(folder, RunConfig(particles=particles.source))
    session = Session(run, Team(device), lambda *_: None)
    images = WorkingImages(particles, device)
    field = MLPField(images.box, MLPSettings(), session.beginning)
    field.amplitude.copy_(signal_amplitude(images))
    stage = Stage("train", 2, "stored", ("field",), images.box / 2 - 1, OUR_BATCH, 1e-3)
    fit = Fit(images, {"field": field}, [stage], session, Scope.of(ScopeSettings(), images, "C1"), compute)
    fit.run(fit.start(particles.poses()))
    return run.metrics()[-1]["images_per_s"]


def peers(command: Path, particles: Particles, folder: Path, options: list[str]) -> float:
    """Images/s of the second of two epochs of `train_nn` on the same images, poses and CTF."""
    folder.mkdir()
    write_stack(folder / "particles.mrcs", [particles.images()], len(particles), particles.box, particles.pixel_size)
    write_pickles(folder, particles)
    network = ["--layers", "3", "--dim", "256", "-b", str(PEER_BATCH), "-n", "2", *options]
    files = ["particles.mrcs", "--poses", "pose.pkl", "--ctf", "ctf.pkl", "-o", "out"]
    line = [str(command), "train_nn", *files, *network]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    epochs = _FINISHED.findall(done.stdout + done.stderr)
    if len(epochs) < 2:
        raise SystemExit(f"{' '.join(line)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    hours, minutes, seconds = epochs[1]
    return round(len(particles) / (int(hours) * 3600 + int(minutes) * 60 + float(seconds)), 1)


if __name__ == "__main__":
    main()
