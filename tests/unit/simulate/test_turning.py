"""A part of a molecule that turns about a bond."""

from pathlib import Path

import numpy as np
import pytest

from cryoloom.data.structure import positions
from cryoloom.errors import InputError
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.phantom import phantom_structure
from cryoloom.simulate.turning import PHANTOM_BOND, turning

PHANTOM = (Path("phantom"),)


def test_half_turns_rigidly_and_half_stays():
    structure = phantom_structure(0.5)
    turned = turning(structure, PHANTOM_BOND)
    before, after = positions(structure), positions(turned(81.0))
    moved = np.linalg.norm(after - before, axis=1) > 1e-3
    assert 0.4 < moved.mean() < 0.6
    assert np.array_equal(np.flatnonzero(moved), np.arange(len(moved) - moved.sum(), len(moved)))
    assert np.linalg.norm((after - before)[moved], axis=1).mean() > 20
    part = before[moved][::50], after[moved][::50]
    lengths = [np.linalg.norm(xyz[:, None] - xyz, axis=-1) for xyz in part]
    assert np.allclose(*lengths, atol=1e-6)
    assert np.allclose(positions(turned(0.0)), before)
    # Twice 40° is 80°.
    assert np.allclose(positions(turning(turned(40.0), PHANTOM_BOND)(40.0)), positions(turned(80.0)), atol=1e-6)


def test_states_are_equal_steps():
    found = conformations_of(Source(PHANTOM, states=10, turn=81.0), 32, 4.0)
    assert [found.names[i] for i in (0, 1, 9)] == [f"phantom, turned by {a}°" for a in (0, 9, 81)]
    first, second, last = (found.volume(i) for i in (0, 1, 9))
    assert first.shape == (32, 32, 32)
    assert float((first - second).norm()) < 0.7 * float((first - last).norm())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source(PHANTOM, turn=90.0, about="A:9999"), "no such residue"),
        (Source(PHANTOM, turn=90.0, about="B:87"), "nothing comes after"),
        (Source(PHANTOM, about="A:186"), "--turn DEGREES"),
        (Source((Path("x.pdb"),), turn=90.0), "--about CHAIN:NUMBER"),
        (Source((*PHANTOM, *PHANTOM), turn=90.0), "needs one STRUCTURE"),
    ],
)
def test_what_cannot_turn_is_refused(source, said):
    with pytest.raises(InputError, match=said):
        conformations_of(source, 32, 4.0)
