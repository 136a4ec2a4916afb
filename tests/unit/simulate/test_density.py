"""Structures and maps on a grid."""

import gzip
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryoloom.data import write_volume
from cryoloom.data.structure import positions, read_structure, read_trajectory, superposed, with_positions
from cryoloom.errors import InputError
from cryoloom.physics.fourier import fourier_shell_correlation
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.density import density_from_map, density_from_structure, resample_volume
from cryoloom.simulate.phantom import phantom, phantom_structure


@pytest.fixture(scope="module")
def pdb(tmp_path_factory):
    path = tmp_path_factory.mktemp("structures") / "phantom.pdb"
    path.write_text(phantom_structure(0.0).make_pdb_string())
    return path


def centroid(volume: torch.Tensor) -> torch.Tensor:
    """Centre of mass (x, y, z) in voxels from D//2."""
    axis = torch.arange(volume.shape[-1]) - volume.shape[-1] // 2
    return torch.stack([(volume.sum(other) * axis).sum() for other in ((0, 1), (0, 2), (1, 2))]) / volume.sum()


def test_density_lies_at_the_centre_of_mass():
    volume = density_from_structure(phantom_structure(0.3), 48, 2.4)
    assert centroid(volume).abs().max() < 0.1


def test_axes_are_z_y_x():
    structure = phantom_structure(0.0)
    xyz = positions(structure)
    moved = density_from_structure(structure, 48, 2.8, centre=xyz.mean(0) - np.array([4.0, -2.0, 1.0]) * 2.8)
    assert torch.allclose(centroid(moved), torch.tensor([4.0, -2.0, 1.0]), atol=0.1)


def test_coarse_grid_is_the_band_limited_fine_one():
    coarse = phantom(32, 3.6)
    fine = resample_volume(phantom(128, 0.9), 0.9, 32, 3.6)
    assert (coarse - fine).norm() / fine.norm() < 0.01


def test_molecule_that_does_not_fit_names_the_box_that_would():
    with pytest.raises(InputError, match="box of at least") as error:
        phantom(32, 1.6)
    needed = int(str(error.value).split("at least ")[1].split()[0])
    assert phantom(needed, 1.6).shape == (needed,) * 3


def test_map_is_resampled_about_its_centre(tmp_path):
    volume = phantom(64, 1.8)
    write_volume(tmp_path / "map.mrc", volume, 1.8)
    smaller = density_from_map(tmp_path / "map.mrc", 36, 3.1)
    expected = phantom(36, 3.1)
    assert float(fourier_shell_correlation(smaller, expected)[:16].min()) > 0.98
    assert torch.equal(density_from_map(tmp_path / "map.mrc", 64, 1.8), volume)
    with pytest.raises(InputError, match="does not fit"):
        density_from_map(tmp_path / "map.mrc", 24, 1.8)


def test_map_with_oblong_box_is_padded(tmp_path):
    with mrcfile.new(tmp_path / "oblong.mrc") as mrc:
        mrc.set_data(np.pad(np.ones((2, 4, 6), np.float32), 4))
        mrc.set_volume()
        mrc.voxel_size = 2.0
    volume = density_from_map(tmp_path / "oblong.mrc", 32, 2.0)
    assert volume.shape == (32, 32, 32)
    assert float(volume.sum()) == pytest.approx(48, rel=0.02)


def test_chains_and_compressed_files(pdb, tmp_path):
    packed = tmp_path / "phantom.pdb.gz"
    with pdb.open("rb") as plain, gzip.open(packed, "wb") as out:
        shutil.copyfileobj(plain, out)
    whole, small = read_structure(packed), read_structure(pdb, "B")
    assert len(positions(small)) < len(positions(whole)) == len(positions(phantom_structure(0.0)))
    with pytest.raises(InputError, match="its chains are A, B"):
        read_structure(pdb, "Q")


@pytest.mark.parametrize(("name", "text"), [("empty.pdb", ""), ("words.cif", "hello"), ("x.txt", "ATOM")])
def test_files_that_are_no_structures_are_refused(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=name):
        read_structure(path)
    with pytest.raises(InputError, match="does not exist"):
        read_structure(tmp_path / "nowhere.pdb")


def test_superposition_takes_out_a_rigid_motion():
    structure = phantom_structure(0.0)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = with_positions(structure, positions(structure) @ turn.T + [30, 0, -4])
    assert np.abs(positions(superposed(moved, structure)) - positions(structure)).max() < 0.02


def test_conformations_share_one_frame(pdb, tmp_path):
    opened = tmp_path / "open.pdb"
    opened.write_text(phantom_structure(1.0).make_pdb_string())
    both = conformations_of(Source((pdb, opened)), 48, 2.6)
    a, b = both.volume(0), both.volume(1)
    alone = conformations_of(Source((pdb, opened), chain="A"), 48, 2.6)
    assert torch.allclose(alone.volume(0), alone.volume(1), atol=1e-4)
    assert float((a - b).norm() / a.norm()) > 0.3


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "no STRUCTURE"),
        (("phantom", "a.pdb"), "stands alone"),
        (("a.xyz",), "is no STRUCTURE"),
        (("a.pdb", "b.mrc"), "one kind"),
    ],
)
def test_sources_that_make_no_sense_are_refused(names, words, tmp_path):
    with pytest.raises(InputError, match=words):
        conformations_of(Source(tuple(Path(name) for name in names)), 32, 3.4)


def test_phantom_opens_and_has_no_mirror_or_two_fold():
    closed, half, opened = (phantom(48, 2.4, opening) for opening in (0.0, 0.5, 1.0))
    unit = closed.norm()
    assert (half - closed).norm() < (opened - closed).norm()
    assert (opened - closed).norm() / unit > 0.3
    for axis in range(3):
        assert float((closed * closed.flip(axis).roll(1, axis)).sum() / unit**2) < 0.7
    with pytest.raises(InputError, match="opening"):
        phantom(48, 2.4, 1.5)


def test_trajectory_frames_follow_the_topology(shared):
    pytest.importorskip("MDAnalysis", reason="the md extra is not installed")
    folder = shared / "trajectories" / "adk"
    structure, xyz = read_trajectory(folder / "adk_closed.pdb", folder / "adk_dims.dcd", stride=40)
    assert xyz.shape == (3, 3341, 3)
    assert {site.atom.element.name for site in structure[0].all()} == {"H", "C", "N", "O", "S"}
    states = conformations_of(
        Source((folder / "adk_closed.pdb",), trajectory=folder / "adk_dims.dcd", stride=40), 32, 3.2
    )
    assert len(states) == 3
    assert float(centroid(states.volume(1)).abs().max()) < 2
    with pytest.raises(InputError, match="topology"):
        read_trajectory(shared / "structures" / "4ake.pdb", folder / "adk_dims.dcd")


def test_pdb_and_cif_of_one_entry_agree(shared):
    a, b = (
        density_from_structure(read_structure(shared / "structures" / name, "A"), 32, 3.2)
        for name in ("4ake.pdb", "4AKE.cif")
    )
    # Their atoms agree; the PDB file lost its B-factors, so that its detail is sharper.
    assert float((a * b).sum() / (a.norm() * b.norm())) > 0.98
