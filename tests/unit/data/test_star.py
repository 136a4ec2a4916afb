"""STAR files: what is written reads back the same, and points back to the original particles."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles, write_star
from cryoloom.data.star import read_blocks
from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance, random_rotations


@pytest.fixture
def star(project: Path) -> Path:
    return project / "job" / "particles.star"


def test_reading_follows_relions_conventions(star: Path) -> None:
    particles = read_particles(star)
    index = np.load(star.parent.parent / "order.npy")
    np.testing.assert_allclose(particles.column("shift_x"), -0.5 * index, atol=1e-5)
    np.testing.assert_allclose(particles.column("shift_y"), 0.25 * index, atol=1e-5)
    assert particles.ctf().voltage_kv.tolist() == [300.0] * 12
    assert particles.column("myTag").tolist() == [f"tag{i}" for i in index]
    row = int(np.flatnonzero(index == 5)[0])
    z, y = torch.deg2rad(torch.tensor([0.0, 75.0]))
    # rot 0, tilt 75, psi −50: R = Rz(50°) Ry(−75°), x_image = R x_volume.
    c, s = torch.cos(torch.deg2rad(torch.tensor(50.0))), torch.sin(torch.deg2rad(torch.tensor(50.0)))
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    tilt = torch.tensor([[torch.cos(y), 0, -torch.sin(y)], [0, 1, 0], [torch.sin(y), 0, torch.cos(y)]])
    assert float(z) == 0
    assert torch.allclose(particles.poses([row]).best_rotation[0], turn @ tilt, atol=1e-6)


@pytest.mark.parametrize("where", ["job/again.star", "elsewhere/deep/again.star"])
def test_written_particles_read_back_the_same(project: Path, star: Path, where: str) -> None:
    particles = read_particles(star)
    write_star(project / where, particles)
    again = read_particles(project / where)
    for name in particles.table.columns:
        if name == "rlnOpticsGroup":
            continue
        a, b = particles.column(name), again.column(name)
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)
    assert angular_distance(particles.poses().best_rotation, again.poses().best_rotation).max() < 1e-3
    assert torch.equal(particles.images(), again.images())
    assert (again.box, again.pixel_size) == (particles.box, particles.pixel_size)
    assert read_blocks(project / where)["optics"]["rlnBeamTiltX"].tolist() == [0.25]


def test_a_selection_with_new_poses_and_columns_points_back(project: Path, star: Path) -> None:
    part = read_particles(star).subset([7, 2, 9])
    pose = Pose.single(random_rotations(3, torch.Generator().manual_seed(0)), torch.tensor([[1.0, -2], [0, 0], [3, 4]]))
    columns = {"rotation_sigma_deg": torch.tensor([1.0, 2, 3]), "half_set": np.array([1, 2, 1])}
    columns["latent_1"] = [0.1, 0.2, 1e-9]
    write_star(project / "out.star", part, pose, columns)
    table = read_blocks(project / "out.star")["particles"]
    assert table["rlnRandomSubset"].tolist() == table["half_set"].tolist() == [1, 2, 1]
    assert table["rlnOriginXAngst"].tolist() == [-1, 0, -3]
    assert table["rotation_sigma_deg"].tolist() == [1, 2, 3]
    again = read_particles(project / "out.star")
    assert again.column("myTag").tolist() == part.column("myTag").tolist()
    assert again.column("latent_1")[2] == pytest.approx(1e-9)
    assert torch.equal(again.images(), part.images())
    assert angular_distance(again.poses().best_rotation, pose.best_rotation).max() < 1e-3


def test_downsampled_particles_are_written_at_the_size_on_disk(project: Path, star: Path) -> None:
    small = read_particles(star, box=8)
    write_star(project / "small.star", small)
    again = read_particles(project / "small.star")
    assert (again.box, again.pixel_size) == (16, 2.5)
    assert torch.equal(again.with_box(8).images(), small.images())


def test_origins_in_pixels_and_detector_pixel_size(project: Path, star: Path) -> None:
    text = star.read_text().replace("Angst", "").replace("rlnImagePixelSize", "rlnDetectorPixelSize")
    text = text.replace("rlnBeamTiltX", "rlnMagnification").replace(" 2.5 16 2 0.25", " 5.0 16 2 20000")
    star.with_name("old.star").write_text(text)
    old, new = read_particles(star.with_name("old.star")), read_particles(star)
    assert old.pixel_size == pytest.approx(2.5)
    np.testing.assert_allclose(old.column("shift_x"), 2.5 * new.column("shift_x"), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("_rlnDefocusV #4\n", "_rlnDefocusW #4\n"), r"column rlnDefocusV is missing"),
        (("rlnVoltage", "rlnVolts"), r"column rlnVoltage is missing"),
        ((" 2.5 16 2", " 0 16 2"), r"pixel size is .*0"),
        (("rlnImagePixelSize", "rlnOtherSize"), None),
        ((" 2.5 16 2", " 2.5 18 2"), r"says the box is 18, but .*16x16"),
        (("000008@mics/a.mrcs", "000009@mics/a.mrcs"), r"asks for image 9 of .*a.mrcs, which holds 8"),
        (("000002@mics/a.mrcs", "second@mics/a.mrcs"), r"row \d+: rlnImageName is 'second@mics/a.mrcs'"),
        (("data_particles", "data_micrographs"), None),
        (("rlnImageName", "rlnPictureName"), r"no rlnImageName in data_optics, data_particles"),
        ((" 15070 ", " nan "), r"row \d+: rlnDefocusU is .*nan.*expected a number"),
        (("rlnBeamTiltX", "rlnCtfDataArePhaseFlipped"), None),
        (("2 0.25", "3 0.25"), r"subtomograms"),
        (("1 opticsGroup1 300.0", "2 opticsGroup1 300.0"), r"rlnOpticsGroup 1 is not in data_optics"),
        ((" 300.0 ", " 300000 "), r"rlnVoltage is 300000 kV; expected 1 to 3000"),
    ],
)
def test_broken_files_are_refused_with_their_place(star: Path, change: tuple[str, str], reason: str | None) -> None:
    text = star.read_text()
    assert change[0] in text
    star.write_text(text.replace(*change))
    if reason is None:
        assert read_particles(star).pixel_size == 2.5
        return
    with pytest.raises(InputError, match=reason) as caught:
        read_particles(star)
    assert "particles.star" in str(caught.value)


def test_missing_stacks_leave_metadata_readable(project: Path, star: Path) -> None:
    (project / "mics").rename(project / "moved")
    particles = read_particles(star)
    assert not particles.has_images
    with pytest.raises(InputError, match=r"a\.mrcs does not exist|b\.mrcs does not exist"):
        particles.images()
    with pytest.raises(InputError, match=r"row \d+: .* does not exist"):
        read_particles(star, require_images=True)
    assert read_particles(star, datadir=project / "moved").has_images


def test_ragged_rows_are_refused(star: Path) -> None:
    lines = star.read_text().rstrip().split("\n")
    lines[-1] = " ".join(lines[-1].split()[:5])
    star.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"particles\.star, (row 12|line \d+)"):
        read_particles(star)


def test_windows_line_ends_and_tabs(star: Path) -> None:
    expected = read_particles(star)
    star.write_bytes(star.read_bytes().replace(b" ", b"\t").replace(b"\n", b"\r\n"))
    assert read_particles(star).table.equals(expected.table)
