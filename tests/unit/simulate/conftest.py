"""A small simulation that several tests look at, and where the shared structures lie."""

from pathlib import Path

import pytest

from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation

BOX, PIXEL = 32, 3.4


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("shared data is absent: expected ../shared/data beside the repository")
    return folder


@pytest.fixture(scope="session")
def two_states():
    return conformations_of(Source((Path("phantom"),), states=2), BOX, PIXEL)


@pytest.fixture(scope="session")
def make(two_states, tmp_path_factory):
    def build(**settings) -> Path:
        output = tmp_path_factory.mktemp("simulated") / "set"
        plain = {"box": BOX, "pixel_size": PIXEL, "particles": 300, "shift": 3.0, "seed": 7}
        simulate_particles(two_states, Simulation(**plain | settings), output)
        return output

    return build


@pytest.fixture(scope="session")
def clean(make) -> Path:
    return make(snr=float("inf"))


@pytest.fixture(scope="session")
def noisy(make) -> Path:
    return make(snr=0.1)
