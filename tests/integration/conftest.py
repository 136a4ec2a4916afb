"""The installed command on a particle set that is small but solvable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles, read_volume
from cryoloom.data.particles import Particles
from cryoloom.physics.pose import Pose
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation

# One start and half the iterations: enough for a clear molecule in 32 pixels.
QUICK = ("--ab-initio.starts", "1", "--ab-initio.batch-size", "300", "--device", "cpu")


def command(*arguments: object) -> list[str]:
    """The command line of the installed `cryoloom`."""
    return [str(Path(sys.executable).with_name("cryoloom")), *map(str, arguments)]


def cryoloom(*arguments: object, code: int = 0) -> str:
    """Run the command; its exit code must be `code`. Returns what it printed on both streams."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=250, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with particles.star and truth/: 600 images of the phantom, box 32, SNR 1, shifts of up to a pixel."""
    folder = tmp_path_factory.mktemp("phantom")
    settings = Simulation(box=32, pixel_size=3.2, particles=600, snr=1.0, shift=1.0, seed=3)
    volumes = conformations_of(Source((Path("phantom"),)), settings.box, settings.pixel_size)
    simulate_particles(volumes, settings, folder)
    return folder


@pytest.fixture(scope="session")
def finished(phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of loom from nothing, which others are compared with."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    cryoloom("reconstruct", phantom_set / "particles.star", "-o", run, *QUICK)
    return run


def volume_of(run: Path) -> torch.Tensor:
    """The final map (D, D, D) of a run."""
    return read_volume(run / "volumes/volume.mrc")[0]


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Pearson correlation of two maps."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def particles_of(folder: Path) -> Particles:
    """The particles of a run or of a truth folder."""
    return read_particles(folder / "particles.star")


def poses_of(folder: Path) -> Pose:
    """The poses in a run's or a truth's particles.star."""
    return particles_of(folder).poses()
