"""What every test may ask for: data beside the checkout, a small volume, a seeded generator."""

import os
from pathlib import Path

# Read once, when torch is loaded: idle threads of the one library must not keep spinning while another works.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import settings

from cryoloom.physics.fourier import radii3

# Machines that run tests are shared: torch would start a thread per core and time nothing but the fight.
torch.set_num_threads(2)

# The first call of a compiled kernel takes seconds, which hypothesis would blame on the example.
settings.register_profile("cryoloom", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("cryoloom")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets beside the checkout; they are under other licences and not in the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the data sets in ../shared/data, which are not there")
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def blobs() -> torch.Tensor:
    """A volume (32, 32, 32) of smooth blobs without symmetry or handedness partner, zero near the faces."""
    return blob_volume(32)


@pytest.fixture
def molecule() -> torch.Tensor:
    """A volume (32, 32, 32) of so many blobs that it is far from its mirror image in every plane."""
    return blob_volume(32, n=40)


def blob_volume(box: int, n: int = 6, seed: int = 1) -> torch.Tensor:
    """A volume (D, D, D) of `n` Gaussian blobs of about a tenth of the box inside half its radius."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(box, dtype=torch.float32) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.zeros(box, box, box)
    for _ in range(n):
        centre = (torch.rand(3, generator=generator) - 0.5) * 0.45 * box
        width = box * (0.05 + 0.03 * torch.rand((), generator=generator))
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        volume += torch.rand((), generator=generator) * torch.exp(-squared / (2 * width**2))
    return volume * (radii3(box) < box / 2 - 1)
