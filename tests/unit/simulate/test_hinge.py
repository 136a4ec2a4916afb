"""A domain swings from where another chain has it to where it was deposited, as a rigid body about its linker."""

from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoloom.data.structure import positions, read_structure
from cryoloom.errors import InputError
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.hinge import Hinge, swing_of, swung

from .conftest import chain

FIRST, LAST = 21, 40
TURN = Rotation.from_rotvec([0.5, -0.7, 0.3])


@pytest.fixture
def down() -> np.ndarray:
    """Forty residues of chain A (40, 3)."""
    return np.random.default_rng(0).normal(size=(40, 3)) * 9


@pytest.fixture
def up(down) -> np.ndarray:
    """The same of chain B: the domain turned about the middle of its ends, then all of it moved away."""
    pivot = down[[FIRST - 1, LAST - 1]].mean(0)
    xyz = down.copy()
    xyz[FIRST - 1 : LAST] = TURN.apply(xyz[FIRST - 1 : LAST] - pivot) + pivot
    return Rotation.from_rotvec([0.0, 2.0, 0.4]).apply(xyz) + np.array([30, -5, 2])


@pytest.fixture
def molecule(down, up) -> gemmi.Structure:
    """Chains A and B, and two sugars: one at the domain of B, one at its body."""
    structure, model = gemmi.Structure(), gemmi.Model(1)
    structure.name = "test"
    for made in (chain("A", down), chain("B", up), chain("C", up[[29, 4]] + 0.4, "NAG", "C1", 1301)):
        model.add_chain(made)
    structure.add_model(model)
    return structure


def test_the_swing_begins_where_the_other_chain_has_the_domain(molecule, down, up):
    swing = swing_of(molecule, Hinge("B", FIRST, LAST, "A"))
    xyz = positions(molecule)
    begun = swing.at(xyz, 0.0)
    body = gemmi.superpose_positions(
        [gemmi.Position(*p) for p in up[: FIRST - 1]], [gemmi.Position(*p) for p in down[: FIRST - 1]]
    ).transform
    expected = np.array([body.apply(gemmi.Position(*p)).tolist() for p in down])
    assert np.allclose(begun[40:80], expected, atol=1e-3)
    assert np.linalg.norm(swing.rotvec) == pytest.approx(TURN.magnitude(), abs=1e-4)
    assert np.allclose(swing.at(xyz, 1.0), xyz, atol=1e-9)


def test_only_the_domain_and_its_sugar_move_and_stay_rigid(molecule):
    xyz, swing = positions(molecule), swing_of(molecule, Hinge("B", FIRST, LAST, "A"))
    halfway = swing.at(xyz, 0.5)
    assert np.flatnonzero((halfway != xyz).any(1)).tolist() == [*range(40 + FIRST - 1, 40 + LAST), 80]
    moved, before = halfway[swing.atoms], xyz[swing.atoms]
    assert np.allclose(distances(moved, moved[0]), distances(before, before[0]))
    # A straight line between the ends would bring the domain closer to its pivot.
    assert np.allclose(distances(moved, swing.pivot), distances(before, swing.pivot))


def test_domains_swing_each_by_itself(molecule, tmp_path):
    swings = [swing_of(molecule, hinge) for hinge in Hinge.parse_all(["B:21-40", "A:21-40"], ["A", "B"])]
    xyz = positions(molecule)
    moved = swung(xyz, swings, (0.3, 0.8))
    for swing, coordinate in zip(swings, (0.3, 0.8), strict=True):
        assert np.allclose(moved[swing.atoms], swing.at(xyz, coordinate)[swing.atoms])
    still = np.setdiff1d(np.arange(len(xyz)), np.concatenate([swing.atoms for swing in swings]))
    assert np.array_equal(moved[still], xyz[still])
    path = tmp_path / "molecule.pdb"
    molecule.write_pdb(str(path))
    made = conformations_of(Source((path,), states=2, hinge=("B:21-40", "A:21-40"), hinge_like=("A", "B")), 32, 4.0)
    assert [name.partition("hinge ")[2] for name in made.names] == [
        *("0.000 0.000", "0.000 1.000", "1.000 0.000", "1.000 1.000")
    ]
    # With both as deposited it is the molecule that one hinge alone ends with.
    alone = conformations_of(Source((path,), states=2, hinge=("B:21-40",), hinge_like=("A",)), 32, 4.0)
    shift = (made.volume(3).sum() - alone.volume(1).sum()) / alone.volume(1).sum()
    assert abs(float(shift)) < 1e-3
    assert len({float((made.volume(i) ** 2).sum()) for i in range(4)}) == 4


def distances(xyz: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.linalg.norm(xyz - place, axis=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"hinge": ("B331-527",), "hinge_like": ("A",)}, "CHAIN:FIRST-LAST"),
        ({"hinge": ("B:40-21",), "hinge_like": ("A",)}, "CHAIN:FIRST-LAST"),
        ({"hinge": ("B:21-40",)}, "1 domains, --hinge-like 0 chains"),
        ({"hinge": ("B:21-40", "A:21-40"), "hinge_like": ("A",)}, "2 domains, --hinge-like 1 chains"),
        ({"hinge": ("B:21-30", "B:30-40"), "hinge_like": ("A", "A")}, "B:30-40 shares residues"),
        ({"hinge": ("B:21-40",), "hinge_like": ("B",)}, "name another"),
        ({"hinge": ("B:21-40",), "hinge_like": ("Z",)}, "no chain 'Z'"),
        ({"hinge": ("B:50-90",), "hinge_like": ("A",)}, "share 0 residues inside"),
        ({"hinge": ("B:21-40",), "hinge_like": ("A",), "states": 1}, "--states"),
    ],
)
def test_hinges_that_make_no_sense_are_refused(molecule, tmp_path, words, said):
    path = tmp_path / "molecule.pdb"
    molecule.write_pdb(str(path))
    with pytest.raises(InputError, match=said):
        conformations_of(Source((path,), **{"states": 3} | words), 32, 4.0)


def test_the_receptor_binding_domain_of_the_spike_swings(shared_data: Path):
    molecule = read_structure(shared_data / "structures" / "6vyb.pdb")
    swing = swing_of(molecule, Hinge("B", 331, 527, "A"))
    assert 40 < np.degrees(np.linalg.norm(swing.rotvec)) < 90
    xyz = positions(molecule)
    path = np.linalg.norm(swing.at(xyz, 0.0) - xyz, axis=1)
    assert 20 < path[swing.atoms].mean() < 45
    assert len(swing.atoms) / len(xyz) < 0.1
