"""Our geometry, CTF and file conventions against images that RELION and cryoDRGN made, and against real particles."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cryoloom.data import Particles, read_particles, read_volume
from cryoloom.data.cryodrgn import read_pose_pickle
from cryoloom.physics.formation import form_images
from cryoloom.physics.fourier import FrequencyLattice, centred_fft3, centred_ifft3
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice, backproject, volume_of_grid
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.em.spherical import contrast_sign

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "particles"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/particles beside the repository")


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation (B,) of images (B, D, D)."""
    a, b = (x - x.mean((-2, -1), keepdim=True) for x in (a, b))
    return (a * b).sum((-2, -1)) / (a.norm(dim=(-2, -1)) * b.norm(dim=(-2, -1)))


def predict(volume: Tensor, particles: Particles, pose: Pose | None = None, with_ctf: bool = False) -> Tensor:
    """Images (N, D, D) that a volume should give at the particles' poses, or at `pose`."""
    lattice = FrequencyLattice.of_box(particles.box)
    parameters = particles.ctf() if with_ctf else None
    spectra = form_images(
        FourierSlice.of_volume(volume), pose or particles.poses(), parameters, lattice, particles.pixel_size
    )
    return lattice.images(spectra)


@pytest.fixture(scope="module")
def ribosome() -> Tensor:
    """ASPIRE's 70S map of 65 voxels, cut to 64: the voxel at 65 // 2 = 32 stays the centre."""
    volume, _ = read_volume(DATA / "relion_reference_projections" / "clean70SRibosome_vol_65p.mrc", pixel_size=1.0)
    return centred_ifft3(centred_fft3(volume)[:64, :64, :64]) * (64 / 65) ** 3


@pytest.mark.parametrize("name", ["rln_proj_64_centered", "rln_proj_64_shifted"])
def test_relion_project_agrees_in_pose_and_shift(ribosome: Tensor, name: str) -> None:
    particles = read_particles(DATA / "relion_reference_projections" / f"{name}.star")
    images = particles.images()
    predicted = predict(ribosome, particles)
    assert correlation(predicted, images).min() > 0.999
    assert float(predicted.norm() / images.norm()) == pytest.approx(1, abs=0.01)
    if "shifted" in name:
        pose = particles.poses()
        assert correlation(predict(ribosome, particles, Pose(pose.rotation, -pose.shift)), images).max() < 0.9


@pytest.mark.parametrize("padding", ["", "_pfac2", "_pfac3"])
def test_relion_project_with_ctf_has_the_opposite_sign(padding: str) -> None:
    folder = DATA / "relion_reference_projections"
    particles = read_particles(folder / f"pointmass_relion_proj_batch{padding}.star")
    images = read_particles(folder / f"pointmass_relion_proj_batch{padding}.mrcs").images()
    volume, _ = read_volume(folder / "pointmass.mrc", pixel_size=particles.pixel_size)
    predicted = predict(volume, particles, with_ctf=True)
    # RELION multiplies by +sin χ, we by −sin χ; unpadded interpolation is coarser.
    assert correlation(-predicted, images).min() > (0.98 if padding == "" else 0.998)
    assert float(predicted.norm() / images.norm()) == pytest.approx(1, abs=0.01)


def test_real_particles_correlate_negatively_at_their_published_poses() -> None:
    folder = DATA / "trpv1_10"
    particles = read_particles(folder / "trpv1_small_stack.star")
    particles = particles.with_columns(image_file=str(folder / "trpv1_small_stack.mrcs"))
    volume, _ = read_volume(folder / "trpv1_volume.mrc")
    images, pose = particles.images(), particles.poses()
    at_poses = correlation(predict(volume, particles, with_ctf=True), images)
    assert at_poses.max() < -0.13
    random = Pose.single(random_rotations(len(particles), torch.Generator().manual_seed(0)), pose.best_shift)
    at_random = correlation(predict(volume, particles, random, with_ctf=True), images)
    assert at_random.abs().mean() < 0.5 * at_poses.abs().mean()


@pytest.mark.parametrize(
    ("name", "ctf", "sign"),
    [
        ("sta_ribosome_220/sta_testing_bin8.star", "sta_ribosome_220/sta_ctf.pkl", -1),
        ("empiar10076_7/empiar_10076_7.star", None, 1),
        ("synthetic_cryodrgn/hand.mrcs", None, 1),
    ],
)
def test_contrast_sign(name: str, ctf: str | None, sign: int) -> None:
    particles = read_particles(DATA / name, ctf=None if ctf is None else DATA / ctf, box=32)
    found, evidence = contrast_sign(particles)
    assert found == sign, evidence


def test_the_imported_cs_calls_dark_particles_minus_one() -> None:
    records = read_particles(DATA / "empiar10076_7" / "empiar_10076_7.cs")
    assert set(records.column("blob/sign")) == {-1}


def test_cryodrgn_rotations_are_ours() -> None:
    folder = DATA / "synthetic_cryodrgn"
    particles = read_particles(folder / "toy_projections.mrcs", poses=folder / "toy_angles.pkl", limit=50)
    volume, _ = read_volume(folder / "toymodel_small_nocenter.mrc")
    images, pose = particles.images(), particles.poses()
    assert correlation(predict(volume, particles), images).mean() > 0.95
    transposed = Pose(pose.rotation.transpose(-1, -2), pose.shift)
    assert correlation(predict(volume, particles, transposed), images).mean() < 0.6


def test_cryodrgn_poses_of_the_hand_rebuild_the_hand() -> None:
    """80 images at their poses predict 20 others; hand-vol.mrc is no hand but an untrained network: no use."""
    folder = DATA / "synthetic_cryodrgn"
    particles = read_particles(folder / "hand.mrcs", poses=folder / "hand_rot.pkl", box=32)
    lattice = FrequencyLattice.of_box(32)
    spectra = lattice.spectrum(particles.images())
    rotations = particles.poses().best_rotation

    def agreement(rotations: Tensor) -> float:
        weights = torch.ones_like(spectra.real)
        sums, weight = backproject(spectra[:80], weights[:80], rotations[:80], lattice, 2, 16)
        volume = volume_of_grid(sums / weight.clamp(min=1), 32, 2)
        predicted = lattice.images(FourierSlice.of_volume(volume).project(rotations[80:], lattice))
        return float(correlation(predicted, lattice.images(spectra[80:])).mean())

    right, transposed = agreement(rotations), agreement(rotations.transpose(-1, -2))
    assert right > 0.9
    assert transposed < right - 0.1


def test_cryodrgn_pickle_equals_the_star_that_it_was_parsed_from() -> None:
    folder = DATA / "sta_ribosome_220"
    star = read_particles(folder / "sta_testing_bin8.star", ctf=folder / "sta_ctf.pkl")
    rotation, _ = read_pose_pickle(folder / "sta_pose.pkl")
    assert torch.allclose(star.poses().best_rotation, torch.from_numpy(rotation), atol=1e-5)
    assert star.pixel_size == pytest.approx(1.82 * 8)
