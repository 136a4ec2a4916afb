"""A small simulation that several tests look at, and where the shared structures lie."""

from pathlib import Path

import gemmi
import numpy as np
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


def chain(name: str, xyz: np.ndarray, residue: str = "ALA", atom: str = "CA", start: int = 1) -> gemmi.Chain:
    """Residues of one atom each, at places (N, 3)."""
    made = gemmi.Chain(name)
    for i, place in enumerate(xyz):
        made.add_residue(gemmi.Residue())
        made[-1].name, made[-1].seqid = residue, gemmi.SeqId(start + i, " ")
        one = gemmi.Atom()
        one.name, one.element, one.pos, one.occ = atom, gemmi.Element("C"), gemmi.Position(*place), 1.0
        made[-1].add_atom(one)
    return made
