"""Masks: one where the molecule is, zero where it is not, soft between."""

import pytest
import torch

from cryoloom.physics.fourier import centred_fft3, radii3, resample_volume
from cryoloom.solve.em.masks import low_pass, molecule_mask, soft_sphere


def test_soft_sphere_is_one_inside_and_zero_outside():
    mask, r = soft_sphere(32, 10, edge=4), radii3(32)
    assert (mask[r <= 10] == 1).all()
    assert (mask[r >= 14] < 1e-6).all()
    edge = mask[16, 16, 26:31]
    assert (edge.diff() < 0).all()
    assert abs(float(edge[2]) - 0.5) < 1e-6


def test_low_pass_keeps_what_is_below_and_removes_what_is_above(generator):
    volume = torch.randn(32, 32, 32, generator=generator)
    before, after, r = centred_fft3(volume).abs(), centred_fft3(low_pass(volume, 8, edge=2)).abs(), radii3(32)
    assert torch.allclose(after[r <= 7], before[r <= 7], rtol=1e-3, atol=1e-3)
    assert float(after[r >= 9].max()) < 1e-2


def test_molecule_mask_is_the_envelope_of_the_molecule(blobs, generator):
    limit = soft_sphere(32, 14)
    noisy = blobs + 0.02 * blobs.max() * torch.randn(blobs.shape, generator=generator)
    mask = molecule_mask(noisy, 8, limit)
    assert float(mask.min()) >= 0
    assert float(mask.max()) <= 1
    assert (mask[blobs > 0.5 * blobs.max()] > 0.99).all()
    assert float(mask.sum()) < 0.8 * float(limit.sum())
    assert (mask <= limit + 1e-6).all()


def test_molecule_mask_drops_a_speck_that_is_not_connected():
    r = radii3(48)
    volume = torch.exp(-((r / 5) ** 2))
    volume += torch.roll(torch.exp(-((r / 1.5) ** 2)), (17, 0, 0), (0, 1, 2))
    mask = molecule_mask(volume, 16, soft_sphere(48, 21), resolved=24)
    assert float(mask[24, 24, 24]) == 1
    assert float(mask[24 + 17, 24, 24]) < 0.01


def test_molecule_mask_without_a_molecule_is_the_limit():
    limit = soft_sphere(24, 9)
    assert torch.equal(molecule_mask(torch.zeros(24, 24, 24), 6, limit), limit)


def test_a_domain_on_a_thin_linker_belongs_to_the_molecule_and_a_speck_does_not():
    axis = torch.arange(48.0) - 24
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")

    def ball(centre, radius):
        return (((x - centre) ** 2 + y**2 + z**2) < radius**2).float()

    volume = ball(-8, 7) + ball(8, 4) + 2 * ball(19, 1)
    mask = molecule_mask(volume, 16.0, soft_sphere(48, 21.0), resolved=24)
    assert mask[24, 24, 24 - 8] == 1
    assert mask[24, 24, 24 + 8] == 1
    assert mask[24, 24, 24 + 19] == 0


def test_a_mask_is_the_same_in_angstrom_whatever_the_pixel_size(blobs):
    fine = resample_volume(blobs, 64)
    coarse_mask = molecule_mask(blobs, 6, soft_sphere(32, 14, edge=2), resolved=12)
    fine_mask = molecule_mask(fine, 6, soft_sphere(64, 28, edge=4), resolved=12)
    # Every second voxel of the fine grid is one of the coarse grid.
    assert float((fine_mask[::2, ::2, ::2] - coarse_mask).abs().mean()) < 0.01
    assert float(fine_mask.mean()) == pytest.approx(float(coarse_mask.mean()), rel=0.1)


def test_a_mask_is_softer_where_the_map_is_known_less_and_never_sharp():
    ball = (radii3(64) < 10).float()
    sphere = soft_sphere(64, 29)
    edges = {}
    for resolved in (6, 12, 20, 31):
        row = molecule_mask(ball, 8, sphere, resolved)[32, 32, 32:]
        edges[resolved] = int(((row > 0.01) & (row < 0.99)).sum())
        assert (row[:11] == 1).all()
    assert edges[6] >= edges[12] > edges[20] >= edges[31] >= 3
    # Two resolution elements of 64 / 20 voxels, but for what is next to nought and one.
    assert edges[20] == pytest.approx(2 * 64 / 20, abs=1.5)


def test_the_envelope_of_noise_is_all_there_is(generator):
    sphere = soft_sphere(48, 21)
    mask = molecule_mask(torch.randn(48, 48, 48, generator=generator), 8, sphere)
    assert float(mask.sum()) > 0.9 * float(sphere.sum())


def test_a_hollow_molecule_is_found_in_noise(generator):
    r = radii3(64)
    shell = ((r > 16) & (r < 21)).float()
    mask = molecule_mask(shell + torch.randn(shell.shape, generator=generator), 10, soft_sphere(64, 29), resolved=20)
    assert float(mask[shell > 0].min()) > 0.9


def test_a_map_of_no_numbers_has_the_limit_for_a_mask():
    limit = soft_sphere(24, 9)
    assert torch.equal(molecule_mask(torch.full((24, 24, 24), torch.nan), 6, limit), limit)
