"""A molecule of our own making: two globular domains of packed helices, joined by a hinge that opens continuously."""

from collections.abc import Callable
from functools import lru_cache

import gemmi
import numpy as np
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.simulate.density import density_from_structure

# An ideal α-helix: radius (Å), angle (°) and height (Å) of each atom about its axis; CB to CE stand for a side chain.
_HELIX = {
    "N": (1.57, -28.3, -0.87),
    "CA": (2.29, 0.0, 0.0),
    "C": (1.69, 27.2, 1.09),
    "O": (2.02, 22.5, 2.30),
    "CB": (3.30, -18.0, -0.30),
    "CG": (4.50, -12.0, 0.40),
    "CD": (5.40, -24.0, 1.20),
    "CE": (6.30, -18.0, 0.20),
}
_RISE, _TURN = 1.5, 100.0
_AXIS_DISTANCE = 7.8
_DOMAIN_DISTANCE = 6.5
_LOOP_STEP = 3.6
_SEED = 1974
# Semi-axes and centres in Å. No two axes agree, and the small domain sits off every axis of the large one.
_LARGE = (np.array([27.0, 24.0, 19.5]), np.array([-7.0, -5.0, 2.0]))
_SMALL = (np.array([13.0, 19.0, 16.0]), np.array([17.5, 14.5, -12.0]))
_HINGE_POINT = np.array([9.0, 11.0, -4.0])
_HINGE_AXIS = np.array([0.48, -0.36, 0.80])
_OPENING_DEG = 38.0
_TWIST_DEG = 9.0


def phantom(box: int, pixel_size: float, opening: float = 0.0, blur: float = 20) -> Tensor:
    """Potential (D, D, D) of the phantom with its hinge opened by `opening` in [0, 1], all openings in one frame.

    Raises InputError outside that range, or where the molecule (90 Å long) does not fit the box.
    """
    return density_from_structure(phantom_structure(opening), box, pixel_size, blur, centre=np.zeros(3))


def phantom_structure(opening: float = 0.0) -> gemmi.Structure:
    """Atoms: chain A (large domain, linker) stays, chain B turns about the hinge; centred when half open."""
    if not 0 <= opening <= 1:
        raise InputError(f"opening of the phantom is {opening:g}: expected 0 (closed) to 1 (open).")
    large, small = _domains()
    centre = np.concatenate([large[0], _opened(small[0], 0.5)]).mean(0)
    structure = gemmi.Structure()
    structure.name = "phantom"
    model = gemmi.Model(1)
    for name, (xyz, atoms) in (("A", large), ("B", (_opened(small[0], opening), small[1]))):
        model.add_chain(_chain(name, xyz - centre, atoms))
    structure.add_model(model)
    return structure


def _opened(xyz: np.ndarray, opening: float) -> np.ndarray:
    axis = _HINGE_AXIS / np.linalg.norm(_HINGE_AXIS)
    turned = (xyz - _HINGE_POINT) @ turn(axis, opening * _OPENING_DEG).T
    along = _SMALL[1] - _HINGE_POINT
    # A slight twist about the domain's own long direction keeps the motion from being a plane one.
    return turned @ turn(along / np.linalg.norm(along), opening * _TWIST_DEG).T + _HINGE_POINT


def turn(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Rotation (3, 3) by some degrees about a unit vector (3,) (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@lru_cache(maxsize=1)
def _domains() -> tuple[tuple[np.ndarray, list[str]], tuple[np.ndarray, list[str]]]:
    random = np.random.default_rng(_SEED)
    large = _domain(*_LARGE, random, lambda line: True)

    def clear(line: np.ndarray) -> bool:
        """Whether a helix of the small domain stays clear of the large one, closed or open."""
        return all(_gap(_opened(line, opening), large[0]) > _DOMAIN_DISTANCE for opening in (0.0, 0.5, 1.0))

    small = _domain(*_SMALL, random, clear)
    linker = _beads(_LARGE[1] + [14.0, 9.0, -3.0], _HINGE_POINT, random)
    return (np.concatenate([large[0], linker[0]]), large[1] + linker[1]), small


def _domain(
    axes: np.ndarray, centre: np.ndarray, random: np.random.Generator, allowed: Callable[[np.ndarray], bool]
) -> tuple[np.ndarray, list[str]]:
    """Atoms of helices packed at random into an ellipsoid, long ones first, and of loops from each to the next."""
    helices: list[np.ndarray] = []
    for length in (26, 21, 17, 14, 11, 8, 6):
        for _ in range(2500):
            direction = random.normal(size=3)
            direction /= np.linalg.norm(direction)
            middle = random.uniform(-1, 1, 3) * axes
            line = middle + (np.arange(length) - (length - 1) / 2)[:, None] * _RISE * direction
            inside = ((line / axes) ** 2).sum(1).max() < 1
            apart = inside and all(_gap(line, other) > _AXIS_DISTANCE for other in helices)
            if apart and allowed(line + centre):
                helices.append(line)
    parts = [_helix_atoms(line + centre, random) for line in helices]
    parts += [_beads(a[-1] + centre, b[0] + centre, random) for a, b in _threaded(helices)]
    return np.concatenate([xyz for xyz, _ in parts]), [name for _, names in parts for name in names]


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a[:, None] - b[None], axis=-1).min())


def _threaded(helices: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    left, here, pairs = list(helices[1:]), helices[0], []
    while left:
        nearest = min(range(len(left)), key=lambda i: float(np.linalg.norm(left[i][0] - here[-1])))
        after = left.pop(nearest)
        pairs.append((here, after))
        here = after
    return pairs


def _helix_atoms(line: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    axis = (line[-1] - line[0]) / np.linalg.norm(line[-1] - line[0])
    side = np.cross(axis, [0.3, 0.5, 0.81] if abs(axis[2]) < 0.9 else [1.0, 0, 0])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    start = random.uniform(0, 360)
    xyz, names = [], []
    for i, point in enumerate(line):
        atoms = list(_HELIX)[: random.integers(5, len(_HELIX) + 1)]
        for atom in atoms:
            radius, angle, height = _HELIX[atom]
            turn = np.deg2rad(start + i * _TURN + angle)
            xyz.append(point + radius * (np.cos(turn) * side + np.sin(turn) * other) + height * axis)
        names += atoms
    return np.array(xyz), names


def _beads(start: np.ndarray, end: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Residues along an arc from start to end."""
    n = max(2, round(float(np.linalg.norm(end - start)) / _LOOP_STEP))
    t = np.linspace(0, 1, n)[:, None]
    bulge = random.normal(size=3) * 2.0
    line = start + t * (end - start) + 4 * t * (1 - t) * bulge
    xyz = line[:, None] + random.normal(size=(n, 4, 3)) * 1.1
    return xyz.reshape(-1, 3), ["N", "CA", "C", "O"] * n


def _chain(name: str, xyz: np.ndarray, atoms: list[str]) -> gemmi.Chain:
    chain = gemmi.Chain(name)
    residue: gemmi.Residue | None = None
    for place, atom_name in zip(xyz, atoms, strict=True):
        if atom_name == "N" or residue is None:
            residue = gemmi.Residue()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(len(chain) + 1, " ")
            chain.add_residue(residue)
            residue = chain[-1]
        atom = gemmi.Atom()
        atom.name, atom.element = atom_name, gemmi.Element(atom_name[0])
        atom.pos, atom.b_iso, atom.occ = gemmi.Position(*place), 30.0, 1.0
        residue.add_atom(atom)
    return chain
