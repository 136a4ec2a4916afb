"""Two maps of one molecule that were found apart are laid on one another, and two molecules do not agree."""

import pytest
import roma
import torch

from cryoloom.physics.fourier import (
    centred_fft3,
    centred_ifft3,
    fourier_shell_correlation,
    radii3,
    resample_volume,
    shell_sums3,
)
from cryoloom.physics.rigid import apply_to_volume, low_pass, without_round_part
from cryoloom.physics.so3 import matrix_from_rotvec, point_group
from cryoloom.solve.em.independent import compare_maps, flattened, group_axis, on_box

BAND = 8.0
ALONE = torch.eye(3)[None]


@pytest.fixture(scope="module")
def molecule() -> torch.Tensor:
    return atoms(1)


def atoms(seed: int, n: int = 120) -> torch.Tensor:
    """A molecule of `n` atoms in an ellipsoid 23 voxels long, in a box of 32: six resolution elements at `BAND`."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(32.0) - 16
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    places = 2 * torch.rand(4 * n, 3, generator=generator) - 1
    volume = torch.zeros(32, 32, 32)
    for place in places[places.norm(dim=1) < 1][:n] * torch.tensor([11.5, 9.8, 8.0]):
        squared = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
        volume += torch.exp(-squared / (2 * 1.3**2))
    return volume


def noisy(volume: torch.Tensor, seed: int, part: float = 0.3) -> torch.Tensor:
    """The map with noise of the same spectrum, `part` as strong: two such maps have an FSC of 1 / (1 + part²)."""
    noise = centred_fft3(torch.randn(volume.shape, generator=torch.Generator().manual_seed(seed)))
    power = shell_sums3(centred_fft3(volume).abs() ** 2) / shell_sums3(noise.abs() ** 2)
    gain = torch.cat([power.sqrt(), torch.zeros(1)]).float()
    return volume + part * centred_ifft3(noise * gain[radii3(32).round().long().clamp(max=16)])


def moved(volume: torch.Tensor, flip: bool) -> torch.Tensor:
    turn = matrix_from_rotvec(torch.tensor([1.1, -0.7, 1.9]))
    return apply_to_volume(volume, turn, flip, torch.tensor([1.5, -0.8, 1.1]))


def symmetric(volume: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    return torch.stack([apply_to_volume(volume, g.T) for g in group]).mean(0)


@pytest.mark.parametrize("flip", [False, True])
def test_a_moved_copy_is_found_again(molecule, flip: bool):
    found = compare_maps(noisy(molecule, 1), noisy(moved(molecule, flip), 2), BAND, ALONE)
    assert found.hand_flipped == flip
    assert found.mean(0.5 * BAND, BAND) > 0.85
    assert float(fourier_shell_correlation(found.volume, molecule)[1 : int(BAND)].min()) > 0.85


def test_two_molecules_do_not_agree(molecule):
    assert compare_maps(molecule, atoms(2), BAND, ALONE).mean(0.5 * BAND, BAND) < 0.4


def test_two_balls_of_a_size_do_not_agree():
    ball = low_pass((radii3(32) < 10).float(), BAND)
    a, b = (noisy(ball, seed, 0.5) for seed in (1, 2))
    assert float(fourier_shell_correlation(a, b)[1 : int(BAND)].mean()) > 0.7
    assert compare_maps(a, b, BAND, ALONE).mean(0.5 * BAND, BAND) < 0.4


@pytest.mark.parametrize("name", ["C4", "D2"])
def test_a_symmetric_map_stays_symmetric(molecule, name: str):
    group = point_group(name)
    whole = symmetric(molecule, group)
    # About the axis any turn is allowed for Cn, and half-way between two axes for Dn.
    turn = matrix_from_rotvec(torch.tensor([0.0, 0.0, 0.6 if name == "C4" else torch.pi / 2]))
    found = compare_maps(noisy(whole, 1), symmetric(noisy(apply_to_volume(whole, turn, True), 2), group), BAND, group)
    assert found.mean(0.5 * BAND, BAND) > 0.85
    for element in group[1:]:
        again = apply_to_volume(found.volume, element)
        assert float(fourier_shell_correlation(found.volume, again)[1 : int(BAND)].min()) > 0.98


def test_the_round_part_goes_and_the_rest_stays(molecule):
    radius = radii3(32)
    # What is odd about the centre has no mean over any sphere.
    mirrored = molecule.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2))
    odd = (molecule - mirrored) * (radius < 15)
    assert torch.allclose(without_round_part(odd), odd, atol=1e-5)
    assert float(without_round_part(torch.ones(32, 32, 32)).abs().max()) < 1e-5
    for ball in (torch.exp(-((radius / 9) ** 2)), torch.exp(-(((radius - 8) / 4) ** 2))):
        left = without_round_part(ball)
        assert float(left.norm()) < 0.02 * float(ball.norm())
        both = without_round_part(odd + ball)
        assert torch.allclose(both - left, odd, atol=1e-4)


def test_what_is_flattened_counts_alike_at_all_frequencies(molecule):
    power = shell_sums3(centred_fft3(flattened(molecule, 7.5)).abs() ** 2) / shell_sums3(torch.ones(32, 32, 32))
    assert power[1:8].tolist() == pytest.approx([float(power[1])] * 7, rel=0.02)
    assert float(power[8:].max()) < 1e-6 * float(power[1])


def test_on_another_box_coefficients_stay(molecule):
    large = on_box(molecule, 48)
    assert float(large.sum()) == pytest.approx(float(molecule.sum()), rel=1e-3)
    assert torch.allclose(large, resample_volume(molecule, 48) * (32 / 48) ** 3)
    assert float((on_box(large, 32) - molecule).norm() / molecule.norm()) < 1e-4


def test_what_a_point_group_leaves_free():
    free = group_axis(point_group("C1"))
    assert free is not None
    assert free.axis is None
    turn, move = matrix_from_rotvec(torch.tensor([0.02, -0.03, 0.05])), torch.tensor([1.0, 2.0, 3.0])
    assert free.restrict(turn, move) == (turn, move)
    for name in ("C2", "C4", "C7"):
        free = group_axis(point_group(name))
        assert free is not None
        assert free.axis.abs().tolist() == pytest.approx([0, 0, 1], abs=1e-5)
        kept, along = free.restrict(turn, move)
        assert roma.rotmat_to_rotvec(kept).tolist() == pytest.approx([0, 0, 0.05], abs=1e-3)
        assert along.tolist() == pytest.approx([0, 0, 3], abs=1e-5)
    for name in ("D2", "D7", "T", "O", "I"):
        assert group_axis(point_group(name)) is None
