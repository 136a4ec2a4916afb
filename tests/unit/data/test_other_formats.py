"""cryoSPARC tables, cryoDRGN pickles, bare stacks and lists of stacks."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import Particles, read_particles, write_stack
from cryoloom.data.cryodrgn import read_pickle, write_pickles
from cryoloom.data.cryosparc import read_cs, write_cs
from cryoloom.errors import InputError
from cryoloom.physics.so3 import angular_distance


@pytest.fixture
def particles(project: Path) -> Particles:
    return read_particles(project / "job" / "particles.star")


def same(a: Particles, b: Particles) -> None:
    """Same images, CTF and poses."""
    assert torch.equal(a.images(), b.images())
    for x, y in zip(a.ctf(), b.ctf(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-4)
    assert angular_distance(a.poses().best_rotation, b.poses().best_rotation).max() < 1e-2
    torch.testing.assert_close(a.poses().shift, b.poses().shift, rtol=1e-5, atol=1e-5)


def test_cs_round_trip(project: Path, particles: Particles) -> None:
    write_cs(project / "job" / "particles.cs", particles)
    again = read_particles(project / "job" / "particles.cs")
    same(particles, again)
    assert (again.box, again.pixel_size) == (16, 2.5)
    assert again.column("half_set").tolist() == particles.column("half_set").tolist()


def test_passthrough_is_joined_by_uid(project: Path, particles: Particles) -> None:
    write_cs(project / "job" / "all.cs", particles)
    records = read_cs(project / "job" / "all.cs")
    (project / "job" / "all.cs").unlink()
    names = list(records.dtype.names or ())
    main = records[["uid", *(name for name in names if name.startswith("alignments3D"))]]
    other = records[["uid", *(name for name in names if not name.startswith(("uid", "alignments3D")))]]
    np.save(project / "job" / "main.npy", np.ascontiguousarray(main))
    (project / "job" / "main.npy").rename(project / "job" / "particles.cs")
    with pytest.raises(InputError, match=r"particles\.cs names no images"):
        read_particles(project / "job" / "particles.cs")
    shuffled = np.ascontiguousarray(other[np.random.default_rng(0).permutation(len(other))])
    np.save(project / "job" / "other.npy", shuffled)
    (project / "job" / "other.npy").rename(project / "job" / "P1_passthrough_particles.cs")
    same(particles, read_particles(project / "job" / "particles.cs"))
    elsewhere = project / "given.cs"
    (project / "job" / "P1_passthrough_particles.cs").rename(elsewhere)
    same(particles, read_particles(project / "job" / "particles.cs", ctf=elsewhere))


def test_cryodrgn_round_trip(project: Path, particles: Particles) -> None:
    write_stack(project / "all.mrcs", [particles.images()], 12, 16, 1.0)
    write_pickles(project, particles)
    again = read_particles(project / "all.mrcs", ctf=project / "ctf.pkl", poses=project / "pose.pkl")
    assert again.pixel_size == pytest.approx(2.5)
    same(particles, again)
    small = read_particles(project / "all.mrcs", ctf=project / "ctf.pkl", poses=project / "pose.pkl", box=8)
    torch.testing.assert_close(small.poses().shift, particles.poses().shift)


def test_ctf_and_poses_may_come_from_a_star_with_the_same_rows(project: Path, particles: Particles) -> None:
    write_stack(project / "all.mrcs", [particles.images()], 12, 16, 2.5)
    star = project / "job" / "particles.star"
    same(particles, read_particles(project / "all.mrcs", ctf=star, poses=star))


def test_index_pickle_selects(project: Path, particles: Particles) -> None:
    star = project / "job" / "particles.star"
    (project / "ind.pkl").write_bytes(pickle.dumps(np.array([9, 3])))
    assert torch.equal(read_particles(star, ind=project / "ind.pkl").images(), particles.images([9, 3]))
    (project / "bad.pkl").write_bytes(pickle.dumps(np.array([12])))
    with pytest.raises(InputError, match="asks for row 12; expected 0 to 11"):
        read_particles(star, ind=project / "bad.pkl")


def test_wrong_number_of_poses_is_refused(project: Path, particles: Particles) -> None:
    write_pickles(project, particles.subset(slice(0, 7)))
    for kind in ("poses", "ctf"):
        name = {"poses": "pose.pkl", "ctf": "ctf.pkl"}[kind]
        with pytest.raises(InputError, match=rf"{name} has 7 rows, but .*particles.star has 12 particles"):
            read_particles(project / "job" / "particles.star", **{kind: project / name})


@pytest.mark.parametrize(
    ("rotation", "translation", "reason"),
    [
        (np.eye(3), 3.5, "translations reach 3.5; expected fractions of the box"),
        (2 * np.eye(3), 0.0, "is no rotation"),
        (-np.eye(3), 0.0, "is no rotation"),
        (np.full((3, 3), np.nan), 0.0, "is no number"),
        (np.eye(2), 0.0, r"expected rotations \(N, 3, 3\)"),
    ],
)
def test_poses_that_cannot_be_are_refused(project: Path, rotation: np.ndarray, translation: float, reason: str) -> None:
    poses = (np.stack([rotation] * 12), np.full((12, 2), translation))
    (project / "bad.pkl").write_bytes(pickle.dumps(poses))
    with pytest.raises(InputError, match=reason):
        read_particles(project / "job" / "particles.star", poses=project / "bad.pkl")


class Malicious:
    """Pickles to a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


def test_pickles_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pkl").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(InputError, match=r"evil\.pkl: not a pickle of numpy arrays"):
        read_pickle("evil.pkl")
    assert not Path("hacked").exists()
    Path("text.pkl").write_text("no pickle")
    with pytest.raises(InputError, match=r"text\.pkl"):
        read_pickle("text.pkl")


def test_lists_of_stacks(project: Path, images: torch.Tensor) -> None:
    (project / "list.txt").write_text("mics/b.mrcs\n\nmics/a.mrcs\n")
    assert torch.equal(read_particles(project / "list.txt").images(), torch.cat([images[8:], images[:8]]))
    (project / "list.txt").write_text("mics/b.mrcs\nmics/c.mrcs\n")
    with pytest.raises(InputError, match=r"list\.txt, line 2: .*c\.mrcs does not exist"):
        read_particles(project / "list.txt")
    write_stack(project / "mics" / "c.mrcs", [torch.zeros(1, 8, 8)], 1, 8, 2.5)
    with pytest.raises(InputError, match="stacks differ in box"):
        read_particles(project / "list.txt")


@pytest.mark.parametrize(
    ("name", "reason"), [("a.xyz", r"unknown type \.xyz"), ("noname", "unknown type"), ("gone.star", "not exist")]
)
def test_unknown_and_missing_files(tmp_path: Path, name: str, reason: str) -> None:
    if "gone" not in name:
        (tmp_path / name).write_text("?")
    with pytest.raises(InputError, match=reason):
        read_particles(tmp_path / name)
