"""Half-sets share no particle, however it is listed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import Particles, read_particles
from cryoloom.data.cryosparc import read_cs, write_cs
from cryoloom.data.half_sets import Repeats, half_set_findings, half_sets
from cryoloom.errors import InputError

N = 12


@pytest.fixture
def particles(project: Path) -> Particles:
    return read_particles(project / "job" / "particles.star").with_columns(half_set=0)


def shared(particles: Particles, groups: np.ndarray, seeds: int = 20) -> bool:
    """Whether any seed puts rows of one group into both halves."""
    return any(
        bool(set(groups[first]) & set(groups[second]))
        for first, second in (half_sets(particles, seed) for seed in range(seeds))
    )


def twice(particles: Particles) -> Particles:
    return particles.subset(np.r_[np.arange(N), np.arange(N)])


def test_an_image_listed_twice_is_in_one_half(particles: Particles) -> None:
    groups = np.tile(np.arange(N), 2)
    assert not shared(twice(particles), groups)
    first, second = half_sets(twice(particles), 0)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(2 * N))
    assert len(first) == len(second)
    (text,) = [f.text for f in half_set_findings(twice(particles)) if "listed" in f.text]
    assert text.startswith("12 images are listed more than once")


def test_two_names_of_one_stack_are_one(project: Path, particles: Particles) -> None:
    (project / "link.mrcs").symlink_to(project / "mics" / "a.mrcs")
    names = particles.column("image_file").astype(str)
    other = np.where(np.char.endswith(names, "a.mrcs"), str(project / "link.mrcs"), names)
    both = twice(particles).with_columns(image_file=np.r_[names, other])
    assert not shared(both, np.tile(np.arange(N), 2))


def test_the_files_own_halves_are_mended_where_they_share_a_particle(particles: Particles) -> None:
    own = np.r_[np.tile([1, 2], 6), np.tile([2, 1], 6)]
    both = twice(particles).with_columns(half_set=own)
    assert not shared(both, np.tile(np.arange(N), 2), 1)
    first, _ = half_sets(both, 0)
    assert (first[:6] % 2 == 0).all()
    (found,) = [f for f in half_set_findings(both) if f.serious]
    assert "12 rows" in found.text
    assert found.name == "shared-half-sets"


@pytest.mark.parametrize("own", [np.r_[0, np.tile([1, 2], 6)[1:]], np.ones(N)])
def test_halves_that_are_not_complete_are_said(particles: Particles, own: np.ndarray) -> None:
    given = particles.with_columns(half_set=own)
    assert all(len(half) == 6 for half in half_sets(given, 0))
    assert any("not complete" in f.text for f in half_set_findings(given))


def test_copies_of_a_symmetry_expansion_stay_together(project: Path, particles: Particles) -> None:
    path = project / "job" / "expanded.cs"
    names = np.array([f"/expanded/{i}.mrcs" for i in range(2 * N)])
    write_cs(path, twice(particles).with_columns(image_file=names, image_index=0))
    records = read_cs(path)
    expanded = np.zeros(len(records), dtype=[*records.dtype.descr, ("sym_expand/src_uid", "<u8")])
    for name in records.dtype.names or ():
        expanded[name] = records[name]
    expanded["sym_expand/src_uid"] = np.tile(2**63 + np.arange(N, dtype=np.uint64), 2)
    with path.open("wb") as stream:
        np.save(stream, expanded)
    assert not shared(read_particles(path).with_columns(half_set=0), np.tile(np.arange(N), 2))


def picked(particles: Particles) -> np.ndarray:
    return Repeats.of(particles).picked


def placed(particles: Particles, x: np.ndarray, y: np.ndarray, micrograph: np.ndarray) -> Particles:
    return particles.with_columns(coordinate_x=x, coordinate_y=y, micrograph_name=micrograph)


def test_particles_that_were_picked_twice_are_in_one_half(particles: Particles) -> None:
    """A quarter of the box of 40 Å is 10 Å."""
    x = np.repeat(np.arange(6) * 100.0, 2)
    y = np.tile([0.0, 9.0], 6)
    near = placed(particles, x, y, np.full(N, "m.mrc"))
    assert len(picked(near)) == 6
    assert not shared(near, np.repeat(np.arange(6), 2))
    assert len(picked(placed(particles, x, 2 * y, np.full(N, "m.mrc")))) == 0
    assert len(picked(placed(particles, x, y, np.tile(["m.mrc", "n.mrc"], 6)))) == 0
    assert any("6 pairs" in f.text for f in half_set_findings(near))


def test_coordinates_that_fill_a_column_count_for_nothing(particles: Particles) -> None:
    zero = placed(particles, np.zeros(N), np.zeros(N), np.full(N, "m.mrc"))
    assert len(picked(zero)) == 0
    unknown = placed(particles, np.full(N, np.nan), np.zeros(N), np.full(N, "m.mrc"))
    assert len(picked(unknown)) == 0


def test_coordinates_in_relions_pixels_become_angst(project: Path) -> None:
    star = project / "job" / "particles.star"
    text = (
        star.read_text().replace("_rlnAutopickFigureOfMerit", "_rlnCoordinateX").replace("_rlnImageDimension", "_rlnX")
    )
    text = text.replace("_rlnDefocusAngle #5", "_rlnCoordinateY #5").replace("_rlnDefocus", "_my")
    star.write_text(text)
    read = read_particles(star)
    index = np.load(project / "order.npy")
    np.testing.assert_allclose(read.column("coordinate_x"), 0.25 * index, atol=1e-5)
    np.testing.assert_allclose(read.column("coordinate_y"), 7.5 * index, atol=1e-4)
    star.write_text(text.replace("_rlnBeamTiltX", "_rlnMicrographOriginalPixelSize"))
    np.testing.assert_allclose(read_particles(star).column("coordinate_y"), 0.75 * index, atol=1e-4)


def test_one_particle_alone_cannot_be_split(particles: Particles) -> None:
    with pytest.raises(InputError, match="cannot be split"):
        half_sets(particles.subset([3, 3, 3, 3]), 0)


def test_a_large_set_is_grouped_without_a_loop(particles: Particles) -> None:
    many = particles.subset(np.arange(200_000) % N).with_columns(image_index=np.arange(200_000))
    random = np.random.default_rng(0)
    x, y = random.uniform(0, 4000, (2, 200_000))
    large = placed(many, x, y, np.char.add("m", (np.arange(200_000) // 300).astype(str)))
    first, second = half_sets(large, 0)
    assert len(first) + len(second) == 200_000
    assert torch.equal(torch.cat([first, second]).sort().values, torch.arange(200_000))
