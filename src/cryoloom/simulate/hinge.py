"""Domains that swing about their linkers, from where another chain has them to where they are deposited."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import gemmi
import numpy as np
from scipy.spatial.transform import Rotation

from cryoloom.data.structure import positions
from cryoloom.errors import InputError

_AWAY = 3


class Hinge(NamedTuple):
    """Residues `first` to `last` of `chain` swing; chain `like` shows where they begin."""

    chain: str
    first: int
    last: int
    like: str

    @classmethod
    def parse(cls, domain: str, like: str) -> "Hinge":
        """From CHAIN:FIRST-LAST and the name of the other chain. Raises InputError for anything else."""
        found = re.fullmatch(r"(\w+):(\d+)-(\d+)", domain)
        if found is None or int(found[2]) + 2 > int(found[3]):
            raise InputError(f"--hinge {domain}: expected CHAIN:FIRST-LAST, such as B:331-527.")
        if like == found[1]:
            raise InputError(f"--hinge-like {like} is the chain that swings: name another one.")
        return cls(found[1], int(found[2]), int(found[3]), like)

    @classmethod
    def parse_all(cls, domains: Sequence[str], likes: Sequence[str]) -> "list[Hinge]":
        """Of each domain and its other chain. Raises InputError where they do not pair or two are one."""
        if len(domains) != len(likes):
            raise InputError(
                f"--hinge names {len(domains)} domains, --hinge-like {len(likes)} chains: give for each domain the "
                "chain whose domain lies as its motion begins."
            )
        hinges = [cls.parse(*pair) for pair in zip(domains, likes, strict=True)]
        for i, hinge in enumerate(hinges):
            for other in hinges[:i]:
                if hinge.chain == other.chain and hinge.first <= other.last and other.first <= hinge.last:
                    raise InputError(f"--hinge {domains[i]} shares residues with another domain: each swings alone.")
        return hinges


class Swing(NamedTuple):
    """A turn by `rotvec` (3,), radians, about `pivot` (3,) that takes `atoms` (n,) to where the motion begins."""

    atoms: np.ndarray
    pivot: np.ndarray
    rotvec: np.ndarray

    def at(self, xyz: np.ndarray, coordinate: float) -> np.ndarray:
        """Positions (N, 3) at a coordinate from 0 (begins) to 1 (as deposited) of `xyz` (N, 3), as deposited."""
        moved = xyz.copy()
        turn = Rotation.from_rotvec((1 - coordinate) * self.rotvec)
        moved[self.atoms] = turn.apply(xyz[self.atoms] - self.pivot) + self.pivot
        return moved


def swung(xyz: np.ndarray, swings: Sequence[Swing], coordinates: Sequence[float]) -> np.ndarray:
    """Positions (N, 3) with each domain at its own coordinate, of `xyz` (N, 3), as deposited."""
    for swing, coordinate in zip(swings, coordinates, strict=True):
        xyz = swing.at(xyz, coordinate)
    return xyz


def swing_of(structure: gemmi.Structure, hinge: Hinge) -> Swing:
    """The swing of a domain about the middle of the Cα atoms at its two ends.

    The rest of chain `like` is superposed on the rest of the chain; the turn that then takes the domain onto its fellow
    is the swing, without the shift that is left. Sugars and ligands go with the residue that they are nearest to.
    Raises InputError where chains or residues are missing.
    """
    own, other = alphas(structure, hinge.chain), alphas(structure, hinge.like)
    inside = range(hinge.first, hinge.last + 1)
    common = own.keys() & other.keys()
    domain, rest = sorted(common & set(inside)), sorted(common - set(inside))
    if len(domain) < _AWAY or len(rest) < _AWAY:
        shared = f"share {len(domain)} residues inside and {len(rest)} outside"
        raise InputError(
            f"--hinge {hinge.chain}:{hinge.first}-{hinge.last}: chains {hinge.chain} and {hinge.like} {shared}; "
            f"expected at least {_AWAY} of each."
        )
    placed = superposition([other[i] for i in rest], [own[i] for i in rest])
    begins = [placed.apply(other[i]) for i in domain]
    turn = superposition([own[i] for i in domain], [gemmi.Position(p) for p in begins])
    rotvec = Rotation.from_matrix(np.array(turn.mat.tolist())).as_rotvec()
    mine = [i for i in sorted(own) if i in inside]
    pivot = np.mean([own[mine[0]].tolist(), own[mine[-1]].tolist()], axis=0)
    return Swing(_moving(structure, hinge), pivot, rotvec)


def alphas(structure: gemmi.Structure, chain: str) -> dict[int, gemmi.Position]:
    """Cα atoms of a chain by their residue's number. Raises InputError where there is no such chain."""
    names = [c.name for c in structure[0]]
    if chain not in names:
        raise InputError(f"{structure.name} has no chain {chain!r}: its chains are {', '.join(dict.fromkeys(names))}.")
    sites = [site for site in structure[0].all() if site.chain.name == chain]
    return {residue_number(s): s.atom.pos for s in sites if s.atom.name == "CA" and s.atom.element.name == "C"}


def residue_number(site: gemmi.CRA) -> int:
    """Number of an atom's residue, as deposited."""
    return site.residue.seqid.num or 0


def superposition(moving: list[gemmi.Position], fixed: list[gemmi.Position]) -> gemmi.Transform:
    """The turn and shift that brings positions closest to others."""
    return gemmi.superpose_positions(fixed, moving).transform


def _moving(structure: gemmi.Structure, hinge: Hinge) -> np.ndarray:
    xyz, sites = positions(structure), list(structure[0].all())
    # Sugars carry residue numbers of their own, in chains of their own or not.
    peptide = np.array([site.residue.find_atom("CA", "*") is not None for site in sites])
    inside = np.array([s.chain.name == hinge.chain and hinge.first <= residue_number(s) <= hinge.last for s in sites])
    moving = np.flatnonzero(inside & peptide)
    residues: dict[tuple[str, str], list[int]] = {}
    for i in np.flatnonzero(~peptide):
        residues.setdefault((sites[i].chain.name, str(sites[i].residue.seqid)), []).append(int(i))
    backbone = np.flatnonzero(peptide)
    carried = [
        i
        for atoms in residues.values()
        if (inside & peptide)[backbone[_nearest(xyz[atoms], xyz[backbone])]]
        for i in atoms
    ]
    return np.sort(np.concatenate([moving, np.array(carried, dtype=int)]))


def _nearest(a: np.ndarray, b: np.ndarray) -> int:
    """Which of b (M, 3) lies nearest to any of a (N, 3)."""
    return int(((a[:, None] - b) ** 2).sum(-1).min(0).argmin())
