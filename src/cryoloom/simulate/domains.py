"""Domains that go, each as a rigid body, from where one structure has them to where another has them."""

import re
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
from scipy.spatial.transform import Rotation

from cryoloom.data.structure import positions, read_structure
from cryoloom.errors import InputError
from cryoloom.simulate.hinge import alphas, residue_number, superposition

_FEWEST = 3


class Ride(NamedTuple):
    """A turn by `rotvec` (3,), radians, of `atoms` (n,) about their `middle` (3,), which goes straight by `way`."""

    atoms: np.ndarray
    middle: np.ndarray
    rotvec: np.ndarray
    way: np.ndarray


class DomainPath(NamedTuple):
    """A structure and the rides of its domains."""

    structure: gemmi.Structure
    rides: tuple[Ride, ...]

    def at(self, coordinate: float) -> np.ndarray:
        """Positions (N, 3) at a coordinate from 0 (the first structure) to 1 (domains as in the second)."""
        xyz = positions(self.structure)
        moved = xyz.copy()
        for ride in self.rides:
            turn = Rotation.from_rotvec(coordinate * ride.rotvec)
            moved[ride.atoms] = turn.apply(xyz[ride.atoms] - ride.middle) + ride.middle + coordinate * ride.way
        return moved


def residues_of(domain: str) -> set[int]:
    """Residue numbers of a domain such as 94-179+308-480. Raises InputError for anything else."""
    if re.fullmatch(r"\d+-\d+(\+\d+-\d+)*", domain) is None:
        raise InputError(f"--domains {domain}: expected FIRST-LAST, or several with + between: 94-179+308-480.")
    parts = [[int(number) for number in part.split("-")] for part in domain.split("+")]
    return {number for first, last in parts for number in range(first, last + 1)}


def domain_path(begin: Path, end: Path, domains: tuple[str, ...], chain: str | None) -> DomainPath:
    """The path of `domains` of the structure `begin` to where `end` has them, fitted by the Cα atoms that both have.

    What is in no domain stays, and lays one structure on the other. Raises InputError where both share too little.
    """
    structure, other = read_structure(begin, chain), read_structure(end, chain)
    own, theirs = _only_chain(structure, begin), _only_chain(other, end)
    common = own.keys() & theirs.keys()
    named = [residues_of(domain) for domain in domains]
    moving = set().union(*named)
    if sum(map(len, named)) > len(moving):
        raise InputError(f"--domains {' '.join(domains)}: a residue is in two of them; give it to one.")
    parts = {"what is in no domain": common - moving} | dict(zip(domains, (common & n for n in named), strict=True))
    for name, residues in parts.items():
        if len(residues) < _FEWEST:
            shared = f"{begin} and {end} share {len(residues)} residues of {name}"
            raise InputError(f"--domains: {shared}; expected at least {_FEWEST}.")
    still = sorted(common - moving)
    laid = superposition([theirs[i] for i in still], [own[i] for i in still])
    xyz = positions(structure)
    numbers = np.array([residue_number(site) for site in structure[0].all()])
    rides = []
    for residues in named:
        atoms = np.flatnonzero(np.isin(numbers, list(residues)))
        shared = sorted(common & residues)
        there = [gemmi.Position(laid.apply(theirs[i])) for i in shared]
        turn = superposition([own[i] for i in shared], there)
        middle = xyz[atoms].mean(0)
        rotvec = Rotation.from_matrix(np.array(turn.mat.tolist())).as_rotvec()
        rides.append(Ride(atoms, middle, rotvec, np.array(turn.apply(gemmi.Position(*middle)).tolist()) - middle))
    return DomainPath(structure, tuple(rides))


def _only_chain(structure: gemmi.Structure, path: Path) -> dict[int, gemmi.Position]:
    names = list(dict.fromkeys(chain.name for chain in structure[0]))
    if len(names) != 1:
        raise InputError(f"--domains: {path} has chains {', '.join(names)}; choose one of both with --chain.")
    return alphas(structure, names[0])
