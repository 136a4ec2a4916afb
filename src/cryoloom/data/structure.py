"""Atomic structures and molecular-dynamics trajectories."""

from pathlib import Path

import gemmi
import numpy as np

from cryoloom.data.files import reading
from cryoloom.errors import InputError

STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")


def is_structure(path: Path) -> bool:
    """Whether a file name is that of an atomic structure, compressed or not."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(STRUCTURE_SUFFIXES)


def read_structure(path: str | Path, chain: str | None = None) -> gemmi.Structure:
    """The first model of a `.pdb`, `.ent` or `.cif` file (`.gz` too), without water; only `chain` where it is given.

    Raises InputError for a file that cannot be read, holds no atoms, or has no such chain.
    """
    # What is damaged may only show when a name is asked for.
    with reading(path, "structure", "expected a PDB or mmCIF file"):
        structure = _read(Path(path))
        _keep_chain(structure, chain, Path(path))
        structure.remove_waters()
        structure.remove_empty_chains()
    if structure[0].count_atom_sites() == 0:
        raise InputError(f"{path} holds no atoms other than water: give a structure of the molecule.")
    return structure


def _read(path: Path) -> gemmi.Structure:
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .pdb, .cif or .mrc file, or the word phantom.")
    if not is_structure(path):
        raise InputError(f"{path} is no structure: expected a name ending in .pdb, .ent or .cif, with or without .gz.")
    structure = gemmi.read_structure(str(path))
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(f"{path} holds no atoms: expected a PDB or mmCIF file with a model.")
    while len(structure) > 1:
        del structure[1]
    _mend_elements(structure)
    structure.setup_entities()
    return structure


def _mend_elements(structure: gemmi.Structure) -> None:
    # Simulation programs leave the element column empty and shift names by one place, so that CA reads as calcium and
    # HE1 as helium. In a residue with a peptide backbone the first letter of a name is the element, but for selenium.
    for chain in structure[0]:
        for residue in chain:
            if {"N", "CA", "C"} <= {atom.name for atom in residue}:
                for atom in residue:
                    letters = atom.name.lstrip("0123456789")
                    atom.element = gemmi.Element("Se" if letters.startswith("SE") else letters[:1])


def _keep_chain(structure: gemmi.Structure, chain: str | None, path: Path) -> None:
    if chain is None:
        return
    names = sorted({c.name for c in structure[0]})
    if chain not in names:
        raise InputError(f"{path} has no chain {chain!r}: its chains are {', '.join(names)}.")
    for name in names:
        if name != chain:
            structure[0].remove_chain(name)


def positions(structure: gemmi.Structure) -> np.ndarray:
    """Coordinates (N, 3) in Å, (x, y, z), of all atoms in file order."""
    return np.array([site.atom.pos.tolist() for site in structure[0].all()])


def centre_of_mass(structure: gemmi.Structure) -> np.ndarray:
    """Centre of mass (3,) in Å."""
    return np.array(structure[0].calculate_center_of_mass().tolist())


def with_positions(structure: gemmi.Structure, xyz: np.ndarray) -> gemmi.Structure:
    """A copy of the structure with its atoms at `xyz` (N, 3) in Å."""
    moved = structure.clone()
    for site, place in zip(moved[0].all(), xyz, strict=True):
        site.atom.pos = gemmi.Position(*place)
    return moved


def superposed(structure: gemmi.Structure, reference: gemmi.Structure) -> gemmi.Structure:
    """A copy of the structure, moved so that its Cα atoms lie best on those of the reference with the same number.

    Raises InputError where fewer than three residues match.
    """
    fixed, moving = _alphas(reference), _alphas(structure)
    common = [key for key in fixed if key in moving]
    if len(common) < 3:
        names = f"{structure.name} and {reference.name}"
        raise InputError(f"{names} share {len(common)} residues by number: superpose them yourself.")
    fit = gemmi.superpose_positions([fixed[key] for key in common], [moving[key] for key in common])
    moved = structure.clone()
    moved[0].transform_pos_and_adp(fit.transform)
    return moved


def _alphas(structure: gemmi.Structure) -> dict[str, gemmi.Position]:
    kinds = {("CA", "C"), ("P", "P")}
    sites = [site for site in structure[0].all() if (site.atom.name, site.atom.element.name) in kinds]
    return {f"{site.chain.name}/{site.residue.seqid}/{site.atom.name}": site.atom.pos for site in sites}


def read_trajectory(
    topology: str | Path, trajectory: str | Path, stride: int = 1, chain: str | None = None
) -> tuple[gemmi.Structure, np.ndarray]:
    """Every `stride`-th frame of a trajectory: the structure `topology` and coordinates (F, N, 3) in Å of its atoms.

    Raises InputError without MDAnalysis, or where the files do not belong together.
    """
    topology, trajectory = Path(topology), Path(trajectory)
    try:
        from MDAnalysis.coordinates.core import get_reader_for
    except ImportError as error:
        raise InputError("Reading a trajectory needs MDAnalysis: run pip install cryoloom[md].") from error
    whole = _read(topology)
    n_atoms = whole[0].count_atom_sites()
    if not trajectory.is_file():
        raise InputError(f"{trajectory} does not exist: expected a DCD, XTC or TRR trajectory.")
    try:
        with get_reader_for(str(trajectory))(str(trajectory), n_atoms=n_atoms) as frames:
            if frames.n_atoms != n_atoms:
                counts = f"{trajectory} has frames of {frames.n_atoms} atoms, {topology} has {n_atoms}"
                raise InputError(f"{counts}: give the trajectory's own topology.")
            xyz = np.stack([frame.positions.copy() for frame in frames[::stride]])
    except (ValueError, OSError, TypeError) as error:
        raise InputError(f"{trajectory} cannot be read as a trajectory ({error}): expected DCD, XTC or TRR.") from error
    return _kept_atoms(whole, xyz, topology, chain)


def _kept_atoms(
    whole: gemmi.Structure, xyz: np.ndarray, topology: Path, chain: str | None
) -> tuple[gemmi.Structure, np.ndarray]:
    # The serial number carries each atom's place in the trajectory's frames through the removals.
    for i, site in enumerate(whole[0].all()):
        site.atom.serial = i
    _keep_chain(whole, chain, topology)
    whole.remove_waters()
    whole.remove_empty_chains()
    kept = np.array([site.atom.serial for site in whole[0].all()])
    return whole, xyz[:, kept].astype(np.float64)
