"""Damaged files: whatever is done to their bytes, they are read, or refused in a sentence that names them."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.data.cryodrgn import read_ctf_pickle, read_index_pickle, read_pose_pickle, write_pickles
from cryoloom.data.cryosparc import write_cs
from cryoloom.data.mrc import Stack, read_volume, write_volume
from cryoloom.data.structure import read_structure
from cryoloom.data.tracks import read_tracks
from cryoloom.errors import InputError

MUTANTS = 300


def mutated(whole: bytes, random: np.random.Generator) -> bytes:
    """Bytes that were changed, cut, repeated, removed or filled, in one of the ways that disks and editors know."""
    data = bytearray(whole)
    at, length = int(random.integers(len(data))), int(random.integers(1, 64))
    match random.integers(7):
        case 0:
            for place in random.integers(len(data), size=int(random.integers(1, 9))):
                data[place] = int(random.integers(256))
        case 1:
            del data[at:]
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length]
        case 4:
            data[at : at + length] = b"\xff" * length
        case 5:
            data[at : at + length] = b"\x00" * length
        case _:
            data[at:at] = bytes(random.choice([b"1e999", b"nan", b"-1", b"@", b"\xe9", b"\n", b'"', b"99999999999"]))
    return bytes(data)


def survives(path: Path, read: Callable[[], object], seed: int = 0, count: int = MUTANTS) -> None:
    """Read `count` mutants of the file; anything but success and a sentence with the file's name is a fault."""
    whole, random = path.read_bytes(), np.random.default_rng(seed)
    refused = 0
    for number in range(count):
        path.write_bytes(mutated(whole, random))
        try:
            read()
        except InputError as error:
            refused += 1
            named = path.parent.name in str(error) or path.name in str(error)
        except Exception as error:
            pytest.fail(f"mutant {number} of {path.name}: {type(error).__name__}: {error}")
        else:
            named = True
        assert named, f"mutant {number} of {path.name}"
    path.write_bytes(whole)
    assert refused, "no mutant was damaged enough"


@pytest.fixture
def star(project: Path) -> Path:
    return project / "job" / "particles.star"


def everything(path: Path) -> None:
    particles = read_particles(path)
    if particles.has_images:
        particles.images()
    if particles.has_poses:
        particles.poses()


def test_star(star: Path) -> None:
    survives(star, lambda: everything(star))


def test_packed_star(star: Path) -> None:
    packed = star.with_name("packed.star.gz")
    packed.write_bytes(gzip.compress(star.read_bytes()))
    survives(packed, lambda: everything(packed))


def test_cs(star: Path) -> None:
    path = star.with_name("p.cs")
    write_cs(path, read_particles(star))
    survives(path, lambda: everything(path))


@pytest.mark.parametrize("packed", [False, True])
def test_stack(project: Path, star: Path, packed: bool) -> None:
    path = project / "mics" / "a.mrcs"
    if packed:
        target = project / "mics" / "packed.mrcs.gz"
        target.write_bytes(gzip.compress(path.read_bytes()))
        path = target
    survives(path, lambda: Stack(path).read())


def test_volume(tmp_path: Path) -> None:
    path = tmp_path / "v.mrc"
    write_volume(path, torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0)), 2.0)
    survives(path, lambda: read_volume(path))


def test_pickles(project: Path, star: Path) -> None:
    write_pickles(project, read_particles(star))
    survives(project / "pose.pkl", lambda: read_pose_pickle(project / "pose.pkl"))
    survives(project / "ctf.pkl", lambda: read_ctf_pickle(project / "ctf.pkl"))
    (project / "ind.pkl").write_bytes(pickle.dumps(np.array([9, 3])))
    survives(project / "ind.pkl", lambda: read_index_pickle(project / "ind.pkl", 12))
    np.save(project / "ind.npy", np.array([9, 3]))
    survives(project / "ind.npy", lambda: read_index_pickle(project / "ind.npy", 12))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        3,
        {},
        [],
        (),
        [1, "a"],
        [[1, 2], [3]],
        np.array(["a"]),
        np.zeros((2, 3, 3)),
        (np.eye(3)[None], "t"),
    ],
)
def test_pickles_of_other_things(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value))
    for read in (read_pose_pickle, read_ctf_pickle, lambda p: read_index_pickle(p, 5)):
        with pytest.raises(InputError, match=r"x\.pkl"):
            read(path)


def test_structures(tmp_path: Path) -> None:
    structure = gemmi.Structure()
    model, chain = gemmi.Model(1), gemmi.Chain("A")
    residue = gemmi.Residue()
    residue.name, residue.seqid = "ALA", gemmi.SeqId("1")
    for name in ("N", "CA", "C"):
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = name, gemmi.Element(name[0]), gemmi.Position(1, 2, 3)
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    for name in ("s.pdb", "s.cif"):
        path = tmp_path / name
        structure.write_pdb(str(path)) if name == "s.pdb" else structure.make_mmcif_document().write_file(str(path))
        survives(path, lambda path=path: read_structure(path))


def test_tracks(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("particle,x,y,frame\n" + "".join(f"{i % 3},{i}.5,{2 * i},{i // 3}\n" for i in range(12)))
    survives(path, lambda: read_tracks(path))


def test_a_header_that_asks_for_too_much_is_not_believed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(4))
    data = (tmp_path / "a.npy").read_bytes().replace(b"(4,)", b"(4000000000,)")
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_index_pickle(tmp_path / "a.npy", 5)


def test_an_mrc_whose_sizes_overflow_is_truncated(project: Path) -> None:
    path = project / "mics" / "a.mrcs"
    data = bytearray(path.read_bytes())
    data[:12] = np.array([2**31 - 1] * 3, dtype="<i4").tobytes()
    path.write_bytes(data)
    with pytest.raises(InputError, match="truncated"):
        Stack(path)


@pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser/a.mrcs", "a\0b", "/proc/self/mem", "/", "."])
def test_names_of_stacks_that_are_none(star: Path, name: str) -> None:
    star.write_text(star.read_text().replace("mics/a.mrcs", name))
    with pytest.raises(InputError, match=r"particles\.star|mem"):
        read_particles(star, require_images=True)


def test_a_label_that_stands_twice_is_refused(star: Path) -> None:
    star.write_text(star.read_text().replace("_myTag", "_rlnDefocusU"))
    with pytest.raises(InputError, match=r"line \d+: the label rlnDefocusU stands twice"):
        read_particles(star)


def test_texts_of_digits_stay_texts(star: Path) -> None:
    text = star.read_text().replace("_myTag", "_rlnGroupName")
    for i in range(12):
        text = text.replace(f" tag{i}\n", f" {i:03d}\n")
    star.write_text(text)
    assert sorted(read_particles(star).column("rlnGroupName").astype(str)) == [f"{i:03d}" for i in range(12)]


def test_latin1_is_read(star: Path) -> None:
    star.write_bytes(star.read_text().replace("tag3", "Zürich").encode("latin-1"))
    assert len(read_particles(star)) == 12
