"""A particle set that is small but solvable, and the command: in this process, or in one that can be killed."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
import torch

from cryoloom.cli.main import run as run_command
from cryoloom.data import read_particles, read_volume
from cryoloom.data.particles import Particles
from cryoloom.physics.pose import Pose
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.run import Run

# One start and less than half the iterations: enough for a clear molecule in 24 pixels.
QUICK = (
    *("--ab-initio.starts", "1", "--ab-initio.first-maps", "1", "--ab-initio.batch-size", "150"),
    *("--ab-initio.iterations", "30", "--ab-initio.temper-iterations", "12"),
    *("--march.certain", "1", "--march.iterations", "4", "--march.batch-size", "100"),
    *("--refinement.iterations", "3", "--refinement.global-iterations", "1", "--device", "cpu"),
)
PIXEL_SIZE = 4.8


def cryoloom(*arguments: object, code: int = 0) -> str:
    """Run the command here; its exit code must be `code`. Returns what it printed on both streams."""
    printed, ended = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            run_command([str(a) for a in arguments])
        except SystemExit as stop:
            ended = stop.code
    assert ended == code, printed.getvalue()
    return printed.getvalue()


def elsewhere(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own, with as many threads as here; `before`: Python run first."""
    script = Path(sys.executable).with_name("cryoloom")
    start = [str(script)]
    if before:
        start = [sys.executable, "-c", f"{before}\nfrom cryoloom.cli.main import run\nrun()"]
    threads = {"OMP_NUM_THREADS": torch.get_num_threads(), "NUMBA_NUM_THREADS": numba.get_num_threads()}
    environment = {**os.environ, **{k: str(n) for k, n in threads.items()}, "CUDA_VISIBLE_DEVICES": ""}
    line = [*start, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=250, env=environment, check=False)


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with particles.star and truth/: 400 images of the phantom, box 24, SNR 2, shifts of up to a pixel."""
    folder = tmp_path_factory.mktemp("phantom")
    settings = Simulation(box=24, pixel_size=PIXEL_SIZE, particles=400, snr=2.0, shift=1.0, seed=0)
    volumes = conformations_of(Source((Path("phantom"),)), settings.box, settings.pixel_size)
    simulate_particles(volumes, settings, folder)
    return folder


@pytest.fixture(scope="session")
def finished(phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of loom from nothing, which others are compared with."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    cryoloom("reconstruct", phantom_set / "particles.star", "-o", run, *QUICK)
    return run


def volume_of(run: Path, name: str = "volume") -> torch.Tensor:
    """A map (D, D, D) of a run."""
    return read_volume(run / "volumes" / f"{name}.mrc")[0]


def unexplained(run: Path) -> tuple[float, float]:
    """Share of the images' power that the volume leaves unexplained: of a run's first and last pass."""
    passes = [line["unexplained"] for line in Run.open(run).metrics() if "unexplained" in line]
    return passes[0], passes[-1]


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Pearson correlation of two maps."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def particles_of(folder: Path) -> Particles:
    """The particles of a run or of a truth folder."""
    return read_particles(folder / "particles.star")


def poses_of(folder: Path) -> Pose:
    """The poses in a run's or a truth's particles.star."""
    return particles_of(folder).poses()
