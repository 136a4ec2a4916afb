"""Domains go from where one structure has them to where another has them, as rigid bodies; the rest stays."""

from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoloom.data.structure import positions
from cryoloom.errors import InputError
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.domains import DomainPath, domain_path, residues_of

from .conftest import chain

DOMAINS = ("11-20", "21-25+31-35")
TURNS = (Rotation.from_rotvec([0.5, -0.7, 0.3]), Rotation.from_rotvec([0.0, 1.2, 0.4]))
WAYS = (np.array([5.0, 0.0, -4.0]), np.array([0.0, 12.0, 3.0]))


def written(path: Path, xyz: np.ndarray) -> Path:
    structure, model = gemmi.Structure(), gemmi.Model(1)
    model.add_chain(chain("A", xyz))
    structure.add_model(model)
    structure.write_pdb(str(path))
    return path


@pytest.fixture
def begin() -> np.ndarray:
    """Forty residues (40, 3)."""
    return np.random.default_rng(0).normal(size=(40, 3)) * 9


@pytest.fixture
def end(begin) -> np.ndarray:
    """The same with both domains turned and moved."""
    xyz = begin.copy()
    for domain, turn, way in zip(DOMAINS, TURNS, WAYS, strict=True):
        rows = np.array(sorted(residues_of(domain))) - 1
        middle = begin[rows].mean(0)
        xyz[rows] = turn.apply(begin[rows] - middle) + middle + way
    return xyz


@pytest.fixture
def path(begin, end, tmp_path) -> DomainPath:
    away = Rotation.from_rotvec([1.0, 0.2, -0.5]).apply(end) + 30
    return domain_path(written(tmp_path / "a.pdb", begin), written(tmp_path / "b.pdb", away), DOMAINS, None)


def test_it_begins_as_the_first_and_ends_as_the_second(path, begin, end):
    assert np.allclose(path.at(0), begin, atol=2e-3)
    # The files round coordinates to thousandths.
    assert np.allclose(path.at(1), end, atol=1e-2)


def test_half_way_each_domain_keeps_its_shape_and_has_turned_half_way(path, begin):
    half = path.at(0.5)
    for domain, turn, way in zip(DOMAINS, TURNS, WAYS, strict=True):
        rows = np.array(sorted(residues_of(domain))) - 1
        expected = Rotation.from_rotvec(0.5 * turn.as_rotvec()).apply(begin[rows] - begin[rows].mean(0))
        assert np.allclose(half[rows], expected + begin[rows].mean(0) + 0.5 * way, atol=1e-2)
    still = np.setdiff1d(np.arange(40), np.array(sorted(set().union(*map(residues_of, DOMAINS)))) - 1)
    assert np.allclose(half[still], positions(path.structure)[still])


def test_conformations_lie_along_the_path(begin, end, tmp_path):
    files = (written(tmp_path / "a.pdb", begin), written(tmp_path / "b.pdb", end))
    made = conformations_of(Source(files, states=3, domains=DOMAINS), 32, 4.0)
    assert len(made) == 3
    assert float((made.volume(0) - made.volume(2)).norm()) > float((made.volume(0) - made.volume(1)).norm()) > 0


@pytest.mark.parametrize(
    ("domains", "said"),
    [
        (("11-20", "15-25"), "a residue is in two of them"),
        (("A:11-20",), "expected FIRST-LAST"),
        (("90-120",), "share 0 residues of 90-120"),
        (("1-39",), "share 1 residues of what is in no domain"),
    ],
)
def test_domains_that_cannot_be_are_refused(begin, end, tmp_path, domains, said):
    files = (written(tmp_path / "a.pdb", begin), written(tmp_path / "b.pdb", end))
    with pytest.raises(InputError) as refused:
        conformations_of(Source(files, states=3, domains=domains), 32, 4.0)
    assert said in str(refused.value)


def test_two_structures_are_needed(begin, tmp_path):
    with pytest.raises(InputError, match="two STRUCTUREs"):
        conformations_of(Source((written(tmp_path / "a.pdb", begin),), states=3, domains=DOMAINS), 32, 4.0)
