"""Slices of a small volume, and a run directory with next to nothing in it."""

from pathlib import Path

import pytest
import torch

from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import random_rotations
from cryoloom.simulate.conformations import Conformations, Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.sums import SliceSums
from cryoloom.solve.run import Run, RunConfig


@pytest.fixture(scope="session")
def sums_of():
    """Build `SliceSums` of noise-free slices of a volume at rotations (R, 3, 3), all weights one."""

    def build(volume: torch.Tensor, rotations: torch.Tensor, group: torch.Tensor | None = None) -> SliceSums:
        box = volume.shape[-1]
        lattice = FrequencyLattice.of_box(box)
        sums = SliceSums.zeros(box, box / 2, torch.eye(3)[None] if group is None else group)
        slices = FourierSlice.of_volume(volume).project(rotations, lattice)
        sums.add(slices, torch.ones(slices.shape), rotations, lattice)
        return sums

    return build


@pytest.fixture(scope="session")
def two_kinds_of(tmp_path_factory):
    """Simulate images of the phantom and of a molecule made of one of its halves, twice beside each other."""

    def simulate(particles: int, box: int, pixel_size: float) -> Path:
        folder = tmp_path_factory.mktemp("kinds")
        one = conformations_of(Source((Path("phantom"),)), box, pixel_size).volume(0)
        half = one * (torch.arange(box) < box // 2)
        both = Conformations.of_volumes([one, half + 0.5 * half.roll(5, 1)])
        settings = Simulation(box=box, pixel_size=pixel_size, particles=particles, snr=2.0, shift=1.0, seed=0)
        simulate_particles(both, settings, folder)
        return folder / "truth"

    return simulate


@pytest.fixture(scope="session")
def scale_of():
    """What true slices (B, P) are to be multiplied by to be the signal of images with shifts (B, 2) px."""

    def fit(slices: torch.Tensor, evidence: Evidence, shift: torch.Tensor) -> torch.Tensor:
        moved = evidence.centred(shift)
        return (slices.conj() * moved).real.sum() / (slices.abs().square() * evidence.power).sum()

    return fit


@pytest.fixture(scope="session")
def many_rotations() -> torch.Tensor:
    return random_rotations(1500, torch.Generator().manual_seed(5))


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(particles=Path("/data/particles.star"), settings={"refinement": {"iterations": 3}}, seed=7)


@pytest.fixture
def run(tmp_path: Path, config: RunConfig) -> Run:
    return Run.create(tmp_path / "run", config)
