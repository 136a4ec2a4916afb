"""The molecules of the success matrix: where their densities come from, and how they are simulated."""

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import torch
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.data.mrc import read_volume, write_volume
from cryoloom.data.structure import read_structure
from cryoloom.evaluate.bench.tables import Notebook
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import point_group
from cryoloom.simulate.density import density_from_map
from cryoloom.simulate.phantom import phantom

# The cubic cell of 7A4M, Å: the octahedral axes of its cage cross in the middle.
_FERRITIN_CELL = 136.49921
_ROD_SIZE = (25.0, 25.0, 160.0)
_SHELL_RADII = (50.0, 65.0)
_BLOB_WIDTH = 3.5


@dataclass(frozen=True)
class Molecule:
    """A molecule of the matrix. source: file of the data sets, empty where the benchmark makes all of it.

    made: "" to simulate the file as it is, "map" to bring a density to the box and centre it, else the name of a
    recipe. box in pixels of pixel_size Å. options: of simulate. symmetry: as given to reconstruct. diameter: in Å, for
    RELION's mask. radius: in Å, at which the copies of "copies" stand.
    """

    name: str
    title: str
    source: str
    box: int
    pixel_size: float
    particles: int = 5000
    options: str = ""
    made: str = ""
    symmetry: str = "C1"
    diameter: float = 0.0
    radius: float = 0.0


_FERRITIN = ("structures/7a4m.cif", 64, 3.0)
_BETAGAL = ("maps/betaGal_100_3.54A.mrc", 64, 4.0)
MOLECULES = (
    Molecule("adk-4ake", "AdK 4AKE", "structures/4ake.pdb", 64, 1.6, options="--chain A", diameter=90),
    Molecule("adk-1ake", "AdK 1AKE", "structures/1ake.pdb", 64, 1.6, options="--chain A", diameter=90),
    Molecule("spike", "Spike 6VYB", "structures/6vyb.pdb", 64, 4.0, diameter=220),
    # Voxels of 1 Å would blur a whole box of CTF into one image: the hand is as large as a ribosome here.
    Molecule("hand", "Hand", "particles/synthetic_cryodrgn/hand-vol.mrc", 64, 4.0, made="hand"),
    Molecule("80s", "Ribosome 80S", "maps/80S_4ug0_potential_80_4A.mrc", 64, 5.0),
    Molecule("70s", "Ribosome 70S", "maps/polnet_4v4r_10A.mrc", 48, 8.0, made="map"),
    Molecule("50s", "Ribosome 50S", "maps/polnet_4v4r_50S_10A.mrc", 48, 8.0, made="map"),
    Molecule("cas9", "Cas9 4ZT0", "structures/4ZT0_chainA_protein.pdb", 64, 2.5),
    Molecule("betagal-d2", "β-galactosidase, D2", *_BETAGAL, symmetry="D2", diameter=200),
    Molecule("betagal-c1", "β-galactosidase, C1", *_BETAGAL, diameter=200),
    Molecule("trpv1", "TRPV1, C4", "particles/trpv1_10/trpv1_volume.mrc", 48, 4.88, made="map", symmetry="C4"),
    Molecule("apoferritin", "Apoferritin 7A4M, O", *_FERRITIN, made="cage", symmetry="O", diameter=140),
    Molecule("rod", "Thin rod", "", 64, 3.0, made="rod"),
    Molecule("shell", "Hollow shell", "", 64, 2.6, made="shell"),
    *(
        Molecule(name, f"{title}, {symmetry}", "", box, 6.4, 2500, made="copies", symmetry=symmetry, radius=radius)
        for name, title, symmetry, box, radius in (
            ("dimer", "Dimer", "C2", 32, 34.0),
            ("trimer", "Trimer", "C3", 32, 40.0),
            ("barrel", "Barrel", "D7", 48, 85.0),
            ("tetrahedron", "Tetrahedron", "T", 48, 65.0),
            ("capsid", "Capsid", "I", 56, 115.0),
        )
    ),
)


def molecule_file(book: Notebook, molecule: Molecule) -> str | Path:
    """What `cryoloom simulate` is given: a file of the data sets, or one made in the bench's folder (its name there).

    Raises Skip where the data set is absent.
    """
    source = book.data(molecule.source) if molecule.source else None
    if not molecule.made:
        assert source is not None
        return source
    name = f"made/{molecule.name}.{'cif' if molecule.made == 'cage' else 'mrc'}"
    path = book.bench.folder / name
    if not path.is_file():
        make_molecule(molecule, source, path)
    return name


def make_molecule(molecule: Molecule, source: Path | None, path: Path) -> None:
    """Write what `molecule` is made of to `path`."""
    with replacing(path) as part:
        if molecule.made == "cage":
            cage(read_structure(str(source))).make_mmcif_document().write_file(str(part))
            return
        if molecule.made == "rod":
            volume = rod(molecule.box, molecule.pixel_size)
        elif molecule.made == "shell":
            volume = shell(molecule.box, molecule.pixel_size)
        elif molecule.made == "copies":
            volume = copies(molecule)
        elif molecule.made == "hand":
            volume = centred(read_volume(str(source))[0])
        else:
            volume = centred(density_from_map(str(source), molecule.box, molecule.pixel_size))
        write_volume(part, volume, molecule.pixel_size)


def cage(structure: gemmi.Structure) -> gemmi.Structure:
    """Apoferritin's 24 chains from the one of its file, by the rotations of O about the middle of its cubic cell."""
    one = structure[0][0]
    out, model = gemmi.Structure(), gemmi.Model(1)
    out.name = structure.name
    for number, rotation in enumerate(point_group("O").double().numpy()):
        chain = one.clone()
        chain.name = chr(ord("A") + number)
        for residue in chain:
            for atom in residue:
                place = rotation @ (np.array(atom.pos.tolist()) - _FERRITIN_CELL / 2)
                atom.pos = gemmi.Position(*place)
        model.add_chain(chain)
    out.add_model(model)
    out.setup_entities()
    return out


def centred(volume: Tensor) -> Tensor:
    """A density (D, D, D) rolled by whole voxels so that its centre of mass lies in voxel D//2."""
    level = volume - volume.median()
    dense = torch.where(level > 0.2 * level.max(), level, 0.0)
    box = volume.shape[-1]
    axis = torch.arange(box, dtype=dense.dtype) - box // 2
    shifts = []
    for dim in range(3):
        line = dense.sum(dim=[d for d in range(3) if d != dim])
        shifts.append(-round(float((line * axis).sum() / line.sum())))
    return volume.roll(shifts, (0, 1, 2))


def rod(box: int, pixel_size: float, blobs: int = 140) -> Tensor:
    """A thin rod (D, D, D) of 25 × 25 × 160 Å along z, of blobs of random weight: no two of its views are alike."""
    generator = torch.Generator().manual_seed(25)
    size = torch.tensor(_ROD_SIZE) - 2 * _BLOB_WIDTH
    return _blobs((torch.rand(blobs, 3, generator=generator) - 0.5) * size, box, pixel_size, generator)


def shell(box: int, pixel_size: float, blobs: int = 500) -> Tensor:
    """A hollow shell (D, D, D) of radii 50 to 65 Å, of blobs of random weight: no two of its views are alike."""
    generator = torch.Generator().manual_seed(50)
    way = torch.randn(blobs, 3, generator=generator)
    inner, outer = _SHELL_RADII[0] + _BLOB_WIDTH, _SHELL_RADII[1] - _BLOB_WIDTH
    radius = inner + (outer - inner) * torch.rand(blobs, 1, generator=generator)
    return _blobs(way / way.norm(dim=1, keepdim=True) * radius, box, pixel_size, generator)


def copies(molecule: Molecule) -> Tensor:
    """Copies (D, D, D) of the phantom by the molecule's point group, off all its axes, centred."""
    place = molecule.radius / molecule.pixel_size * torch.tensor([0.8, 0.14, 0.58])
    one = torch.roll(phantom(molecule.box, molecule.pixel_size), place.flip(0).round().int().tolist(), (0, 1, 2))
    turned = [apply_to_volume(one, turn) for turn in point_group(molecule.symmetry)]
    return centred(torch.stack(turned).sum(0))


def _blobs(centres: Tensor, box: int, pixel_size: float, generator: torch.Generator) -> Tensor:
    """Gaussians of one width, at least a voxel, at `centres` (n, 3) Å, (x, y, z), weighted 0.5 to 1.5."""
    weights = 0.5 + torch.rand(len(centres), generator=generator)
    width = max(_BLOB_WIDTH, pixel_size)
    axis = (torch.arange(box) - box // 2) * pixel_size
    x, y, z = (torch.exp(-((axis - centres[:, d : d + 1]) ** 2) / (2 * width**2)) for d in range(3))
    return torch.einsum("n,nk,nj,ni->kji", weights, z, y, x)


def preferred_views(path: Path, count: int = 20_000, cap_deg: float = 30.0, denser: float = 5.0) -> None:
    """Write a STAR file of orientations whose views are `denser` times as many within `cap_deg` of the z axis.

    Both ends of the axis count, turns in the plane are uniform.
    """
    random = np.random.default_rng(0)
    height = random.uniform(-1, 1, int(4 * denser * count))
    near = np.abs(height) > np.cos(np.deg2rad(cap_deg))
    kept = height[near | (random.uniform(size=len(height)) < 1 / denser)][:count]
    rot, psi = random.uniform(-180, 180, (2, len(kept)))
    names = ("ImageName", "AngleRot", "AngleTilt", "AnglePsi", "ImagePixelSize")
    lines = ["data_particles", "", "loop_"]
    lines += [f"_rln{name} #{i}" for i, name in enumerate(names, 1)]
    rows = zip(rot, np.rad2deg(np.arccos(kept)), psi, strict=True)
    lines += [f"{i:06d}@none.mrcs {a:.3f} {b:.3f} {c:.3f} 1.0" for i, (a, b, c) in enumerate(rows, 1)]
    with replacing(path) as part:
        part.write_text("\n" + "\n".join(lines) + "\n")
