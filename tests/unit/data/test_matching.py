"""Rows of a second file go to the images that they name: never to others that stand in the same place."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryoloom.data import Particles, read_particles, write_stack, write_star
from cryoloom.data.cryosparc import read_cs, write_cs
from cryoloom.data.matching import ImageNames, matching_rows
from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations

N = 12


@pytest.fixture
def star(project: Path) -> Path:
    return project / "job" / "particles.star"


@pytest.fixture
def other(project: Path, star: Path) -> Particles:
    """The same particles in another row order, with poses and defocus of their own."""
    pose = Pose.single(random_rotations(N, torch.Generator().manual_seed(7)), torch.arange(24.0).reshape(N, 2))
    changed = read_particles(star).with_poses(pose).with_columns(defocus_u=np.arange(N) * 100 + 20000)
    shuffled = changed.subset(np.random.default_rng(3).permutation(N))
    write_star(project / "elsewhere" / "refined.star", shuffled)
    write_cs(project / "elsewhere" / "refined.cs", shuffled)
    return changed


@pytest.mark.parametrize("kind", ["star", "cs"])
def test_poses_and_ctf_in_another_row_order_go_to_their_images(project: Path, star: Path, other, kind) -> None:
    refined = project / "elsewhere" / f"refined.{kind}"
    read = read_particles(star, poses=refined, ctf=refined)
    torch.testing.assert_close(read.poses().rotation, other.poses().rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(read.poses().shift, other.poses().shift, atol=1e-4, rtol=0)
    assert read.column("defocus_u").tolist() == other.column("defocus_u").tolist()


def test_a_file_of_more_particles_serves_a_selection(project: Path, star: Path, other: Particles) -> None:
    few = project / "job" / "few.star"
    write_star(few, read_particles(star).subset([4, 1, 9]))
    read = read_particles(few, poses=project / "elsewhere" / "refined.star")
    torch.testing.assert_close(read.poses().rotation, other.poses([4, 1, 9]).rotation, atol=1e-4, rtol=0)


def test_an_image_without_a_pose_is_named(project: Path, star: Path, other: Particles) -> None:
    write_star(project / "part.star", other.subset(range(10)))
    read = read_particles(star, poses=project / "part.star")
    torch.testing.assert_close(read.poses(range(10)).rotation, other.poses(range(10)).rotation, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match=r"part\.star has no pose for 2 of 12 particles .*first particle 11, image \d"):
        read.poses()
    with pytest.raises(InputError, match=r"part\.star has no row for particle 11 "):
        read_particles(star, ctf=project / "part.star")


def test_poses_of_other_images_are_refused_and_taken_when_asked(project: Path, star: Path, other: Particles) -> None:
    images = other.images()
    write_stack(project / "binned" / "all.mrcs", [images + 1], N, 16, 2.5)
    renamed = other.with_columns(image_file=str(project / "binned" / "all.mrcs"), image_index=np.arange(N))
    write_star(project / "renamed.star", renamed)
    with pytest.raises(InputError, match=r"renamed\.star holds none of the images.*--by-position"):
        read_particles(star, poses=project / "renamed.star")
    read = read_particles(star, poses=project / "renamed.star", by_position=True)
    torch.testing.assert_close(read.poses().rotation, other.poses().rotation, atol=1e-4, rtol=0)
    assert any("position" in finding.text for finding in read.findings)


def test_a_bare_stack_takes_rows_by_position_and_it_is_said(project: Path, star: Path, other: Particles) -> None:
    write_stack(project / "all.mrcs", [other.images()], N, 16, 2.5)
    read = read_particles(project / "all.mrcs", ctf=star, poses=star)
    assert torch.equal(read.poses().rotation, read_particles(star).poses().rotation)
    assert sum("position" in finding.text for finding in read.findings) == 2


def test_two_stacks_of_one_name_keep_their_rows(tmp_path: Path, star: Path) -> None:
    """job010/m.mrcs and job020/m.mrcs: the folder counts."""
    pose = Pose.single(random_rotations(N, torch.Generator().manual_seed(7)), torch.zeros(N, 2))
    names = np.array([f"/data/{'job010' if i < 6 else 'job020'}/m.mrcs" for i in range(N)])
    base = read_particles(star).with_columns(image_file=names, image_index=np.arange(N) % 6).with_poses(pose)
    order = np.roll(np.arange(N), 6)
    moved = base.with_columns(image_file=np.array([n.replace("/data", "/elsewhere/p") for n in names])).subset(order)
    write_star(tmp_path / "one.star", base)
    write_star(tmp_path / "two.star", moved)
    read = read_particles(tmp_path / "one.star", poses=tmp_path / "two.star")
    torch.testing.assert_close(read.poses().rotation, pose.rotation, atol=1e-4, rtol=0)
    flat = base.with_columns(image_file="/flat/m.mrcs")
    write_star(tmp_path / "flat.star", flat)
    with pytest.raises(InputError, match="cannot be told which"):
        read_particles(tmp_path / "one.star", poses=tmp_path / "flat.star")


def test_two_stacks_are_not_read_from_one_file(tmp_path: Path, star: Path, images: torch.Tensor) -> None:
    names = np.array([f"{'job010' if i < 6 else 'job020'}/Extract/m.mrcs" for i in range(N)])
    write_stack(tmp_path / "flat" / "m.mrcs", [images], N, 16, 2.5)
    text = star.read_text()
    for i, name in enumerate(names):
        index = np.load(tmp_path / "order.npy")[i]
        old = f"{1 + index - (0 if index < 8 else 8):06d}@mics/{'a' if index < 8 else 'b'}.mrcs"
        text = text.replace(old, f"{1 + i % 6:06d}@{name}")
    star.write_text(text)
    with pytest.raises(InputError, match=r"job010/Extract/m\.mrcs and job020/Extract/m\.mrcs, and both"):
        read_particles(star, datadir=tmp_path / "flat")
    for k, job in enumerate(("job010", "job020")):
        write_stack(tmp_path / "deep" / job / "Extract" / "m.mrcs", [images[6 * k : 6 * k + 6]], 6, 16, 2.5)
    assert torch.equal(read_particles(star, datadir=tmp_path / "deep").images(), images)


def test_stacks_found_by_their_file_names_alone_are_said(project: Path, star: Path) -> None:
    (project / "mics").rename(project / "moved")
    read = read_particles(star, datadir=project / "moved")
    assert any("by their file names alone" in finding.text for finding in read.findings)
    (project / "moved").rename(project / "mics")
    texts = [finding.text for finding in read_particles(star, datadir=project).findings]
    assert not any("names alone" in text for text in texts)


def test_restacked_particles_are_matched_by_uid(project: Path, star: Path, other: Particles) -> None:
    source = project / "job" / "restacked.cs"
    write_cs(source, read_particles(project / "elsewhere" / "refined.cs").subset(np.argsort(np.arange(N))[::-1]))
    records = read_cs(source)
    records["blob/path"] = b"J9/restacked.mrcs"
    records["blob/idx"] = np.arange(N)
    with source.open("wb") as stream:
        np.save(stream, records)
    theirs = read_particles(project / "elsewhere" / "refined.cs")
    read = read_particles(source, poses=project / "elsewhere" / "refined.cs")
    torch.testing.assert_close(read.poses().rotation, theirs.poses().rotation.flip(0), atol=1e-5, rtol=0)
    assert any("uid" in finding.text for finding in read.findings)


def test_uids_that_we_give_name_the_image(project: Path, star: Path) -> None:
    """Two sets without uids of their own must not be taken for each other: numbers from 1 would be."""
    particles = read_particles(star)
    write_cs(project / "a.cs", particles)
    write_cs(project / "b.cs", particles.with_columns(image_file="/other/set.mrcs", image_index=np.arange(N)))
    a, b = read_cs(project / "a.cs")["uid"], read_cs(project / "b.cs")["uid"]
    assert len(np.unique(a)) == N
    assert not np.isin(a, b).any()


def names_of(*rows: tuple[str, int]) -> ImageNames:
    return ImageNames(Path("x.star"), pd.Categorical([r[0] for r in rows]), np.array([r[1] for r in rows]))


def test_repeated_images_match_one_by_one_or_not_at_all() -> None:
    a, b, c = ("/d/s.mrcs", 0), ("/d/s.mrcs", 1), ("/d/s.mrcs", 2)
    assert matching_rows(names_of(a, a, b), names_of(b, a, a)).rows.tolist() == [1, 2, 0]
    assert matching_rows(names_of(a, b, b), names_of(b, a)).rows.tolist() == [1, 0, 0]
    assert matching_rows(names_of(a, c), names_of(b, a)).rows.tolist() == [1, -1]
    with pytest.raises(InputError, match=r"image 1 of /d/s\.mrcs 2 times"):
        matching_rows(names_of(a, b), names_of(b, a, a))
