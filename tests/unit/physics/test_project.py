"""Slices against torch-fourier-slice, and volumes put together again from their slices."""

import math

import pytest
import torch
from torch_fourier_slice import project_3d_to_2d

from cryoloom.errors import InputError
from cryoloom.physics.formation import form_images
from cryoloom.physics.fourier import FrequencyLattice, fourier_shell_correlation, shift_phases
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice, RayIntegral, backproject, grid_extent, hermitian, volume_of_grid
from cryoloom.physics.so3 import random_rotations


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().square().sum().sqrt() / b.abs().square().sum().sqrt())


@pytest.mark.parametrize("pad", [2, 3])
def test_slices_agree_with_torch_fourier_slice(blobs, pad, generator):
    rotations = random_rotations(8, generator)
    lattice = FrequencyLattice.of_box(32).prefix(14)
    # Their matrices turn the slice, x_volume = M x_image: the transpose of ours.
    images = project_3d_to_2d(blobs, rotations.transpose(-1, -2), pad_factor=float(pad))
    ours = FourierSlice.of_volume(blobs, pad=pad).project(rotations, lattice)
    assert difference(ours, lattice.spectrum(images)) < 0.01


def test_values_and_derivatives_come_together(blobs, generator):
    rotations = random_rotations(4, generator)
    lattice = FrequencyLattice.of_box(32).prefix(10)
    projector = FourierSlice.of_volume(blobs, pad=4)
    value, gradient = projector.project_with_gradient(rotations, lattice)
    assert torch.allclose(value, projector.project(rotations, lattice), atol=1e-3)
    # The derivative of V̂ is the transform of −2πi r/D · V.
    r = (torch.arange(32.0) - 16) * (-2 * torch.pi / 32)
    along_x = FourierSlice.of_volume(blobs * r[None, None, :]).project(rotations, lattice) * 1j
    assert difference(gradient[..., 0], along_x) < 0.1


@pytest.mark.parametrize("band", [5, 9.5, 15])
def test_a_smaller_band_gives_the_same_slices(blobs, band, generator):
    rotations = random_rotations(4, generator)
    lattice = FrequencyLattice.of_box(32).prefix(band)
    full = FourierSlice.of_volume(blobs).project(rotations, lattice)
    assert torch.allclose(FourierSlice.of_volume(blobs, band=band).project(rotations, lattice), full, atol=1e-4)


def test_a_lattice_wider_than_the_band_is_refused(blobs, generator):
    with pytest.raises(ValueError, match="half-width"):
        FourierSlice.of_volume(blobs, band=5).project(random_rotations(1, generator), FrequencyLattice.of_box(32))


def test_volume_comes_back_from_its_slices(blobs, generator):
    rotations = random_rotations(600, generator)
    lattice, pad, band = FrequencyLattice.of_box(32).prefix(14), 2, 14
    spectra = FourierSlice.of_volume(blobs).project(rotations, lattice)
    sums, weights = backproject(spectra, torch.ones(spectra.shape), rotations, lattice, pad, band)
    assert sums.shape[-1] == grid_extent(band, pad) + 1
    sums, weights = hermitian(sums), hermitian(weights)
    volume = volume_of_grid(sums / weights.clamp(min=1e-3), 32, pad)
    # Further out the blobs have less power than what dividing by the weights leaves over.
    assert float(fourier_shell_correlation(volume, blobs)[1:9].min()) > 0.99
    assert difference(volume, blobs) < 0.1


def test_images_are_formed_from_slice_shift_and_ctf(blobs, generator):
    rotations = random_rotations(3, generator)
    shift = torch.randn(3, 2, generator=generator) * 4
    lattice = FrequencyLattice.of_box(32).prefix(12)
    projector = FourierSlice.of_volume(blobs)
    formed = form_images(projector, Pose.single(rotations, shift), None, lattice, pixel_size=2.0)
    expected = projector.project(rotations, lattice) * shift_phases(lattice.k, shift / 2.0, 32)
    assert torch.allclose(formed, expected)


def test_ray_integral_of_the_identity_is_the_sum_along_z(blobs):
    assert torch.allclose(RayIntegral(blobs).project(torch.eye(3)[None])[0], blobs.sum(0), atol=1e-4)


def test_poses_are_selected_and_joined(generator):
    pose = Pose.single(random_rotations(5, generator))
    assert torch.equal(pose.best_shift, torch.zeros(5, 2))
    parts = [pose.select(torch.tensor([0, 1])), pose.select(torch.tensor([2, 3, 4]))]
    assert torch.equal(Pose.concatenate(parts).best_rotation, pose.best_rotation)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e20, -3.0])
def test_what_is_no_rotation_leaves_no_grid(value: float) -> None:
    """The compiled loops do not look where they read and write."""
    lattice = FrequencyLattice.of_box(16)
    rotations = torch.eye(3).repeat(5, 1, 1)
    rotations[3, 0, 1] = value
    projector = FourierSlice.of_volume(torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(InputError, match="orientations are not finite"):
        projector.project(rotations, lattice)
    values = torch.ones(5, len(lattice), dtype=torch.complex64)
    with pytest.raises(InputError, match="orientations are not finite"):
        backproject(values, torch.ones(5, len(lattice)), rotations, lattice, 2, 8.0)
