"""The volumes that particles are drawn from: one, several conformations, a trajectory's frames, a phantom's opening."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from torch import Tensor

from cryoloom.data.structure import (
    centre_of_mass,
    is_structure,
    positions,
    read_structure,
    read_trajectory,
    superposed,
    with_positions,
)
from cryoloom.errors import InputError
from cryoloom.simulate.density import density_from_map, density_from_structure
from cryoloom.simulate.domains import domain_path
from cryoloom.simulate.hinge import Hinge, swing_of, swung
from cryoloom.simulate.phantom import phantom, phantom_structure
from cryoloom.simulate.turning import PHANTOM_BOND, turning

PHANTOM = "phantom"
_MAP_SUFFIXES = (".mrc", ".map", ".ccp4", ".mrc.gz", ".map.gz")


@dataclass(frozen=True)
class Conformations:
    """K volumes in the order of a coordinate from 0 to 1; `volume(i)` renders (D, D, D) when asked: many fit."""

    names: tuple[str, ...]
    volume: Callable[[int], Tensor]

    def __len__(self) -> int:
        return len(self.names)

    def coordinate(self, i: int) -> float:
        """Where conformation i lies on the way from the first (0) to the last (1)."""
        return i / max(len(self) - 1, 1)

    @classmethod
    def of_volumes(cls, volumes: Sequence[Tensor], names: Sequence[str] | None = None) -> "Conformations":
        """Conformations of volumes (D, D, D) in memory."""
        names = names or [f"conformation_{i}" for i in range(len(volumes))]
        return cls(tuple(names), lambda i: volumes[i])


@dataclass(frozen=True)
class Source:
    """What the user named: structures or maps, or the word phantom, and how to read them.

    turn, about: degrees by which what follows a residue turns about its bond in `states` steps, see `turning`.
    hinge, hinge_like: of domains that swing, each in `states` steps whatever the others do, see `hinge`.
    domains: of two structures, what goes from its place in the first to that in the second, see `domains`.
    """

    structures: tuple[Path, ...]
    chain: str | None = None
    trajectory: Path | None = None
    stride: int = 1
    states: int = 1
    superpose: bool = False
    blur: float = 20.0
    turn: float | None = None
    about: str | None = None
    hinge: tuple[str, ...] | None = None
    hinge_like: tuple[str, ...] = ()
    domains: tuple[str, ...] | None = None

    def plain(self) -> dict[str, Any]:
        """Every entry as plain JSON types."""
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return {"source": plain | {"structures": [str(path) for path in self.structures]}}


def conformations_of(source: Source, box: int, pixel_size: float) -> Conformations:
    """The conformations of a source on a grid; raises InputError for what cannot be used or does not fit the box."""
    names = source.structures
    if not names:
        raise InputError("no STRUCTURE was given: give .pdb, .cif or .mrc files, or the word phantom.")
    if source.turn is not None:
        return _of_turning(source, source.turn, box, pixel_size)
    if source.about is not None:
        raise InputError(f"--about {source.about} names what turns: say by how much, too, with --turn DEGREES.")
    if any(str(name) == PHANTOM for name in names):
        return _of_phantom(source, box, pixel_size)
    if source.trajectory is not None:
        return _of_trajectory(source, box, pixel_size)
    if source.hinge is not None:
        return _of_hinges(source, source.hinge, box, pixel_size)
    if source.domains is not None:
        return _of_domains(source, source.domains, box, pixel_size)
    labels = tuple(name.name for name in names)
    maps = [name for name in names if name.name.lower().endswith(_MAP_SUFFIXES)]
    if len(maps) == len(names):
        return Conformations(labels, lambda i: density_from_map(names[i], box, pixel_size))
    unknown = [name for name in names if name not in maps and not is_structure(name)]
    if unknown:
        raise InputError(f"{unknown[0]} is no STRUCTURE: expected .pdb, .cif, .mrc (gz too), or the word phantom.")
    if maps:
        raise InputError(f"{maps[0]} is a map and other STRUCTUREs are atoms: their grey values differ, give one kind.")
    molecules = [read_structure(name, source.chain) for name in names]
    if source.superpose:
        molecules = [molecules[0], *(superposed(molecule, molecules[0]) for molecule in molecules[1:])]
    # One centre for all: what does not move between conformations stays where it is.
    centre = np.mean([centre_of_mass(molecule) for molecule in molecules], axis=0)

    def volume(i: int) -> Tensor:
        try:
            return density_from_structure(molecules[i], box, pixel_size, source.blur, centre)
        except InputError as error:
            hint = "" if len(names) == 1 else " Structures in different frames of reference need --superpose."
            raise InputError(f"{error}{hint}") from error

    return Conformations(labels, volume)


def _of_phantom(source: Source, box: int, pixel_size: float) -> Conformations:
    if len(source.structures) > 1 or source.trajectory is not None:
        raise InputError("phantom stands alone: give it without other STRUCTUREs; --states N makes it open in N steps.")
    if source.states < 1:
        raise InputError(f"states is {source.states}: expected at least 1.")
    openings = np.linspace(0, 1, source.states) if source.states > 1 else np.zeros(1)
    names = tuple(f"phantom, opening {opening:.3f}" for opening in openings)
    return Conformations(names, lambda i: phantom(box, pixel_size, float(openings[i])))


def _of_turning(source: Source, degrees: float, box: int, pixel_size: float) -> Conformations:
    if len(source.structures) != 1 or source.trajectory is not None or source.states < 1:
        raise InputError(
            "--turn needs one STRUCTURE of atoms, or the word phantom, no trajectory and --states 1 or more."
        )
    name = source.structures[0]
    of_phantom = str(name) == PHANTOM
    if source.about is None and not of_phantom:
        raise InputError("--turn needs the residue that the rest turns about: add --about CHAIN:NUMBER.")
    structure = phantom_structure(0.5) if of_phantom else read_structure(name, source.chain)
    turned = turning(structure, source.about or PHANTOM_BOND)
    angles = np.linspace(0, degrees, source.states) if source.states > 1 else np.zeros(1)
    centre = np.mean([centre_of_mass(turned(angle)) for angle in (0, degrees / 2, degrees)], axis=0)
    names = tuple(f"{name.name}, turned by {angle:g}°" for angle in angles)

    def volume(i: int) -> Tensor:
        return density_from_structure(turned(float(angles[i])), box, pixel_size, source.blur, centre)

    return Conformations(names, volume)


def _of_trajectory(source: Source, box: int, pixel_size: float) -> Conformations:
    if len(source.structures) != 1 or source.trajectory is None:
        raise InputError(f"a trajectory needs one STRUCTURE as its topology: {len(source.structures)} were given.")
    if source.stride < 1:
        raise InputError(f"stride is {source.stride}: expected at least 1.")
    topology, path = source.structures[0], source.trajectory
    molecule, xyz = read_trajectory(topology, path, source.stride, source.chain)
    centre = np.mean([_mass_centre(molecule, frame) for frame in xyz], axis=0)
    names = tuple(f"{path.name}, frame {i * source.stride + 1}" for i in range(len(xyz)))

    def volume(i: int) -> Tensor:
        return density_from_structure(with_positions(molecule, xyz[i]), box, pixel_size, source.blur, centre)

    return Conformations(names, volume)


def _of_hinges(source: Source, domains: tuple[str, ...], box: int, pixel_size: float) -> Conformations:
    if len(source.structures) != 1 or not is_structure(source.structures[0]):
        raise InputError("--hinge swings a domain of one STRUCTURE of atoms: give one .pdb or .cif.")
    if source.states < 2:
        raise InputError("--hinge needs --states N: the number of steps from its begin to its end, at least 2.")
    path = source.structures[0]
    molecule = read_structure(path, source.chain)
    xyz = positions(molecule)
    swings = [swing_of(molecule, hinge) for hinge in Hinge.parse_all(domains, source.hinge_like)]
    ways = list(product(np.linspace(0, 1, source.states), repeat=len(swings)))
    centre = np.mean([_mass_centre(molecule, swung(xyz, swings, way)) for way in ways], axis=0)

    def volume(i: int) -> Tensor:
        moved = with_positions(molecule, swung(xyz, swings, ways[i]))
        return density_from_structure(moved, box, pixel_size, source.blur, centre)

    names = (f"{path.name}, hinge {' '.join(f'{at:.3f}' for at in way)}" for way in ways)
    return Conformations(tuple(names), volume)


def _of_domains(source: Source, domains: tuple[str, ...], box: int, pixel_size: float) -> Conformations:
    if len(source.structures) != 2 or not all(is_structure(path) for path in source.structures):
        raise InputError("--domains needs two STRUCTUREs of atoms: where the domains begin, and where they end.")
    if source.states < 2:
        raise InputError("--domains needs --states N: the number of steps from the first to the second, at least 2.")
    begin, end = source.structures
    path = domain_path(begin, end, domains, source.chain)
    ways = np.linspace(0, 1, source.states)
    centre = np.mean([_mass_centre(path.structure, path.at(way)) for way in ways], axis=0)

    def volume(i: int) -> Tensor:
        moved = with_positions(path.structure, path.at(ways[i]))
        return density_from_structure(moved, box, pixel_size, source.blur, centre)

    return Conformations(tuple(f"{begin.name} to {end.name}, {way:.3f}" for way in ways), volume)


def _mass_centre(molecule: gemmi.Structure, xyz: np.ndarray) -> np.ndarray:
    weights = np.array([site.atom.element.weight * site.atom.occ for site in molecule[0].all()])
    return weights @ xyz / weights.sum()
