"""Particles: lazy images in any order, views, halves, movies, fingerprints."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles, write_stack
from cryoloom.data.assemble import Found, assemble
from cryoloom.data.half_sets import half_sets
from cryoloom.data.particles import CTF_COLUMNS
from cryoloom.errors import InputError
from cryoloom.physics.fourier import resample_images
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations


@pytest.fixture
def star(project: Path) -> Path:
    return project / "job" / "particles.star"


def test_images_follow_the_rows_whatever_stack_they_are_in(project: Path, star: Path, images: torch.Tensor) -> None:
    particles = read_particles(star)
    order = torch.from_numpy(np.load(project / "order.npy"))
    assert torch.equal(particles.images(), images[order])
    for index in (torch.tensor([5, 0, 5, 11]), [3], slice(2, 9, 3), np.array([7, 1])):
        rows = torch.as_tensor(np.arange(12)[index])
        assert torch.equal(particles.images(index), images[order[rows]])
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[2, 4]] = True
    assert torch.equal(particles.images(mask), images[order[[2, 4]]])
    assert particles.images([]).shape == (0, 16, 16)


def test_working_box_resamples_images_and_keeps_the_field_of_view(star: Path) -> None:
    full, small = read_particles(star), read_particles(star, box=8)
    assert small.pixel_size == pytest.approx(5.0)
    assert torch.equal(small.images([1, 4]), resample_images(full.images([1, 4]), 8))
    with pytest.raises(InputError, match="even number"):
        read_particles(star, box=7)


def test_subsets_are_views_that_remember_their_rows(star: Path) -> None:
    particles = read_particles(star)
    part = particles.subset([4, 1]).subset([1])
    assert part.column("source_row").tolist() == [1]
    assert torch.equal(part.images(), particles.images([1]))
    assert torch.equal(part.poses().rotation, particles.poses([1]).rotation)
    assert torch.equal(part.ctf().defocus_u, particles.ctf([1]).defocus_u)
    assert read_particles(star, limit=3).column("source_row").tolist() == [0, 1, 2]


def test_half_sets_share_nothing_and_are_always_the_same(star: Path) -> None:
    first, second = (read_particles(star, half_set=half).column("source_row").tolist() for half in (1, 2))
    assert sorted(first + second) == list(range(12))
    assert first == read_particles(star, half_set=1).column("source_row").tolist()
    assert len(first) == len(second)


def test_poses_replace_and_vanish(star: Path) -> None:
    particles = read_particles(star)
    rotation = random_rotations(12, torch.Generator().manual_seed(0))
    shift = torch.arange(24.0).reshape(12, 2)
    turned = particles.with_poses(Pose.single(rotation, shift))
    assert torch.equal(turned.poses().best_rotation, rotation)
    assert torch.equal(turned.poses().best_shift, shift)
    assert not torch.equal(particles.poses().best_shift, shift)
    with pytest.raises(InputError, match=r"particles\.star has no poses"):
        turned.with_poses(None).poses()


def test_half_sets_come_from_the_file_or_the_seed(star: Path) -> None:
    particles = read_particles(star)
    first, second = half_sets(particles, seed=0)
    assert (particles.column("half_set")[first.numpy()] == 1).all()
    assert (particles.column("half_set")[second.numpy()] == 2).all()
    free = particles.with_columns(half_set=0)
    first, second = half_sets(free, seed=3)
    assert len(first) == len(second) == 6
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(12))
    assert torch.equal(first, half_sets(free, seed=3)[0])
    assert not torch.equal(first, half_sets(free, seed=4)[0])


def test_movies_are_rows_in_frame_order_and_halves_keep_them_whole(star: Path) -> None:
    particles = read_particles(star)
    with pytest.raises(InputError, match="no movies"):
        particles.movies()
    movie = np.array(["m1", "m0", "m2", "m3"])[np.arange(12) % 4]
    filmed = particles.with_columns(movie_id=movie, frame=np.arange(12)[::-1], half_set=0)
    movies = filmed.movies()
    assert sorted(movies) == ["m0", "m1", "m2", "m3"]
    assert movies["m1"].tolist() == [8, 4, 0]
    first, second = (set(movie[half.numpy()]) for half in half_sets(filmed, seed=1))
    assert not first & second
    assert len(first) == len(second) == 2


def test_fingerprint_changes_with_the_input_only(star: Path) -> None:
    particles = read_particles(star)
    same = particles.fingerprint()
    assert same == read_particles(star).fingerprint()
    assert same != read_particles(star, box=8).fingerprint()
    assert same != particles.subset(slice(0, 11)).fingerprint()
    assert same != particles.with_columns(defocus_u=np.ones(12)).fingerprint()
    assert same != particles.with_poses(None).fingerprint()


def test_fingerprint_changes_with_the_pixels(star: Path, images: torch.Tensor) -> None:
    before = read_particles(star).fingerprint()
    images[3] = images[4]
    write_stack(star.parent.parent / "mics" / "a.mrcs", [images[:8]], 8, 16, 2.5)
    assert read_particles(star).fingerprint() != before


def test_many_rows_stay_small(tmp_path: Path) -> None:
    write_stack(tmp_path / "x.mrcs", [torch.zeros(1, 4, 4)], 1, 4, 1.0)
    one = read_particles(tmp_path / "x.mrcs")
    n = 100_000
    columns = {"image_file": one.table["image_file"].array.take(np.zeros(n, dtype=int)), "defocus_u": np.ones(n)}
    columns |= {name: np.ones(n) for name in CTF_COLUMNS[1:]}
    particles = assemble(Found(tmp_path / "x.mrcs", n, columns, box=4, pixel_size=1.0))
    assert particles.table.memory_usage(deep=True).sum() / n < 100


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "000004@mics/a.mrcs",
            "4294967299@mics/a.mrcs",
            r"the number in rlnImageName is 4294967299; expected a whole number",
        ),
        (" 1 1 ", " 300 1 ", r"rlnRandomSubset is 300; expected a whole number from 0 to 2"),
        (" 1 1 ", " 1.5 1 ", r"rlnRandomSubset is 1\.5; expected a whole number"),
        ("15050", "1e300", r"rlnDefocusU is 1e\+300 Å; expected"),
        ("15050", "1e9", r"rlnDefocusU is 1e\+09 Å; expected"),
    ],
)
def test_numbers_that_do_not_fit_their_column_are_refused(star: Path, old: str, new: str, reason: str) -> None:
    text = star.read_text()
    assert old in text
    star.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=reason):
        read_particles(star)


def test_large_numbers_of_optics_groups_stay(star: Path) -> None:
    text = star.read_text().replace("\n1 opticsGroup1", "\n40000 opticsGroup1")
    star.write_text(re.sub(r" 1 ([0-9.]+ tag)", r" 40000 \1", text))
    assert set(read_particles(star).column("optics_group").tolist()) == {40000}


def test_one_missing_pixel_size_is_refused(star: Path) -> None:
    text = (
        star.read_text().replace("_rlnAutopickFigureOfMerit", "_rlnPixelSize").replace("_rlnImagePixelSize", "_unused")
    )
    rows = [line for line in text.splitlines() if "@mics" in line]
    for i, row in enumerate(rows):
        fields = row.split()
        fields[-2] = "nan" if i == 4 else "2.5"
        text = text.replace(row, " ".join(fields))
    star.write_text(text)
    with pytest.raises(InputError, match=r"row 5: rlnPixelSize|row 5: the pixel size is not a number"):
        read_particles(star)


def test_another_pixel_size_moves_shifts_with_it(star: Path) -> None:
    """Shifts in Å stand for pixels of the file's own size."""
    before, after = read_particles(star), read_particles(star, pixel_size=5.0)
    torch.testing.assert_close(after.poses().shift, 2 * before.poses().shift)
    assert any("shifts in Å were multiplied by 2" in finding.text for finding in after.findings)
    text = star.read_text().replace("rlnOriginXAngst", "rlnOriginX").replace("rlnOriginYAngst", "rlnOriginY")
    star.write_text(text)
    torch.testing.assert_close(read_particles(star, pixel_size=5.0).poses().shift, 5 * before.poses().shift)


def test_another_pixel_size_moves_shifts_of_a_pose_file(star: Path) -> None:
    bare = star.with_name("bare.star")
    bare.write_text(star.read_text().replace("rlnAngle", "myAngle").replace("rlnOrigin", "myOrigin"))
    read = read_particles(bare, poses=star, pixel_size=5.0)
    torch.testing.assert_close(read.poses().shift, 2 * read_particles(star).poses().shift)


def test_an_odd_box_is_worked_on_at_the_even_one_below(tmp_path: Path) -> None:
    """A Gaussian in the centre, D // 2, stays in the centre, and the field of view stays."""
    axis = (torch.arange(31.0) - 15).square()
    image = torch.exp(-(axis[:, None] + axis) / 18)
    write_stack(tmp_path / "odd.mrcs", [image[None].repeat(5, 1, 1)], 5, 31, 2.0)
    odd = read_particles(tmp_path / "odd.mrcs")
    assert (odd.box, odd.source_box) == (30, 31)
    assert odd.pixel_size == pytest.approx(62 / 30)
    even = odd.images([0])[0]
    assert divmod(int(even.argmax()), 30) == (15, 15)
    torch.testing.assert_close(even[1:, 1:], even[1:, 1:].flip(0, 1), atol=1e-3, rtol=0)
    assert any("odd number" in finding.text for finding in odd.findings)
