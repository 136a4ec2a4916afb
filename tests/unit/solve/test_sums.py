"""The M-step: slices go in, the volume that they are slices of comes out."""

import pytest
import torch

from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.fourier import (
    FrequencyLattice,
    centred_fft3,
    fourier_shell_correlation,
    shell_sums3,
    shift_phases,
)
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import point_group, random_rotations
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.em.sums import SliceSums, cosets, grid_turns

CERTAIN = torch.full((16,), 1e4)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_clean_slices_give_the_volume_back(blobs, many_rotations, sums_of):
    volume = sums_of(blobs, many_rotations).volume(CERTAIN)
    inside = soft_sphere(32, 13)
    fsc = fourier_shell_correlation(volume * inside, blobs * inside)
    assert float(fsc[:12].min()) > 0.99
    scale = float((volume * blobs).sum() / (blobs * blobs).sum())
    assert scale == pytest.approx(1, abs=0.03)


def half_turn(volume: torch.Tensor) -> torch.Tensor:
    """The volume turned by 180° about z: voxel x goes to −x, in an even box a flip and a step."""
    return torch.roll(volume.flip(1, 2), (1, 1), (1, 2))


def test_symmetry_mates_are_inserted_too(blobs, many_rotations, sums_of):
    symmetric = (blobs + half_turn(blobs)) / 2
    inside = soft_sphere(32, 13)
    from_mates = sums_of(blobs, many_rotations, point_group("C2")).volume(CERTAIN)
    assert correlation(from_mates * inside, symmetric * inside) > 0.995
    # Half of the directions are enough where the group supplies the other half.
    front = many_rotations[many_rotations[:, 0, 0] > 0]
    assert (
        correlation(sums_of(symmetric, front, point_group("C2")).volume(CERTAIN) * inside, symmetric * inside) > 0.995
    )


def test_the_map_of_a_point_group_has_its_symmetry(blobs, many_rotations, sums_of):
    volume = sums_of(blobs, many_rotations, point_group("D2")).volume(CERTAIN)
    assert correlation(volume[1:, 1:, 1:], half_turn(volume)[1:, 1:, 1:]) > 0.9999


# Point group: its size, and how many of its turns take the grid onto itself, with RELION's axes.
GROUPS = {
    "C1": (1, 1),
    "C2": (2, 2),
    "C4": (4, 4),
    "D2": (4, 4),
    "D3": (6, 2),
    "D7": (14, 2),
    "T": (12, 1),
    "O": (24, 24),
    "I1": (60, 12),
    "I2": (60, 12),
}


@pytest.mark.parametrize("name", GROUPS)
def test_cosets_and_grid_turns_make_up_the_group(name: str):
    group = point_group(name)
    turns, kept = grid_turns(group), cosets(group)
    assert (len(group), len(turns)) == GROUPS[name]
    assert len(kept) * len(turns) == len(group)
    assert torch.equal(kept[0], torch.eye(3))
    products = torch.einsum("kij,hjl->khil", kept, turns).flatten(0, 1)
    apart = (products[:, None] - group).abs().amax((2, 3))
    assert sorted(apart.argmin(1).tolist()) == list(range(len(group)))
    assert float(apart.amin(1).max()) < 1e-5


@pytest.mark.parametrize("name", GROUPS)
def test_cosets_give_the_volume_of_all_mates_one_by_one(name: str, generator):
    group, lattice, band = point_group(name), FrequencyLattice.of_box(32).prefix(10.0), 10.0
    rotations = random_rotations(5, generator)
    spectra = torch.randn(5, len(lattice), generator=generator, dtype=torch.complex64)
    power = torch.rand(5, len(lattice), generator=generator)
    sums = SliceSums.zeros(32, band, group)
    sums.add(spectra, power, rotations, lattice)
    one_by_one = SliceSums.zeros(32, band, torch.eye(3)[None])
    for element in group:
        one_by_one.add(spectra, power, rotations @ element, lattice)
    for ssnr in (CERTAIN, torch.linspace(10, 0.1, 16)):
        expected = one_by_one.volume(ssnr)
        assert (sums.volume(ssnr) - expected).norm() < 1e-4 * expected.norm()


def test_shares_add_up_to_the_whole(blobs, many_rotations, sums_of):
    whole = sums_of(blobs, many_rotations[:60])
    parts = sums_of(blobs, many_rotations[:25]) + sums_of(blobs, many_rotations[25:60])
    assert (parts.numerator - whole.numerator).norm() < 1e-5 * whole.numerator.norm()
    assert (parts.denominator - whole.denominator).norm() < 1e-5 * whole.denominator.norm()
    assert torch.allclose(whole.scaled(0.25).denominator, whole.denominator / 4)


def test_add_particles_undoes_shift_and_ctf(blobs, many_rotations, sums_of):
    lattice = FrequencyLattice.of_box(32)
    generator = torch.Generator().manual_seed(2)
    rotation, shift = many_rotations[:200], 3 * torch.randn(200, 2, generator=generator)
    ctf = torch.rand(200, len(lattice), generator=generator) - 0.5
    images = ctf * shift_phases(lattice.k, shift, 32) * FourierSlice.of_volume(blobs).project(rotation, lattice)
    evidence = Evidence.of_images(images, ctf, torch.ones(len(lattice)), lattice)
    found = SliceSums.zeros(32, 16, torch.eye(3)[None])
    found.add_particles(evidence, rotation[:, None], shift[:, None], torch.ones(200, 1))
    expected = SliceSums.zeros(32, 16, torch.eye(3)[None])
    slices = FourierSlice.of_volume(blobs).project(rotation, lattice)
    expected.add(ctf**2 * slices, ctf**2, rotation, lattice)
    assert (found.numerator - expected.numerator).norm() < 1e-4 * expected.numerator.norm()
    assert (found.denominator - expected.denominator).norm() < 1e-5 * expected.denominator.norm()


def test_hypotheses_count_by_their_weight(plain_evidence):
    evidence, rotation, shift = plain_evidence
    weight = torch.tensor([[0.7, 0.3, 0.0]]).expand(len(evidence), 3)
    found = SliceSums.zeros(32, 16, torch.eye(3)[None])
    found.add_particles(evidence, rotation, shift, weight)
    expected = None
    for k, w in enumerate((0.7, 0.3)):
        one = SliceSums.zeros(32, 16, torch.eye(3)[None])
        one.add_particles(evidence, rotation[:, k : k + 1], shift[:, k : k + 1], torch.ones(len(evidence), 1))
        expected = one.scaled(w) if expected is None else expected + one.scaled(w)
    assert (found.numerator - expected.numerator).norm() < 1e-4 * expected.numerator.norm()
    assert (found.denominator - expected.denominator).norm() < 1e-4 * expected.denominator.norm()


@pytest.fixture
def plain_evidence(generator):
    lattice = FrequencyLattice.of_box(32)
    spectrum = torch.randn(4, len(lattice), generator=generator, dtype=torch.complex64)
    evidence = Evidence.of_images(spectrum, torch.ones(4, len(lattice)), torch.ones(len(lattice)), lattice)
    rotation = random_rotations(12, generator).view(4, 3, 3, 3)
    return evidence, rotation, torch.randn(4, 3, 2, generator=generator)


def test_the_prior_is_a_wiener_filter(many_rotations, sums_of):
    point = torch.zeros(32, 32, 32)
    point[17, 15, 18] = 1
    sums = sums_of(point, many_rotations)
    ssnr = CERTAIN.clone()
    ssnr[5:8] = 1.0
    ssnr[8:] = 1e-4
    kept = (shell_sums3(centred_fft3(sums.volume(ssnr)).abs()) / shell_sums3(centred_fft3(point).abs())).float()
    assert kept[1:4].tolist() == pytest.approx([1, 1, 1], abs=0.05)
    # λ = mean denominator / SSNR: at SSNR 1 half of the amplitude stays where directions are evenly seen.
    assert float(kept[6]) == pytest.approx(0.5, abs=0.07)
    assert float(kept[10:14].max()) < 0.02


def test_empty_sums_give_an_empty_volume():
    volume = SliceSums.zeros(16, 8, torch.eye(3)[None]).volume(torch.ones(8))
    assert torch.isfinite(volume).all()
    assert float(volume.abs().max()) == 0
