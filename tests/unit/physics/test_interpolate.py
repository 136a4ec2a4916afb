"""The compiled CPU loops against the torch formula, and gradients against finite differences."""

import pytest
import torch

from cryoloom.physics import _kernels, interpolate
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import matrix_from_rotvec, random_rotations

EXTENT = 14


@pytest.fixture
def case(generator):
    """A random grid, rotations among them the identity, and the frequencies of a band."""
    shape = (2 * EXTENT + 1, 2 * EXTENT + 1, EXTENT + 1)
    grid = torch.randn(*shape, generator=generator, dtype=torch.complex64)
    rotations = torch.cat([torch.eye(3)[None], random_rotations(6, generator)])
    k = 1.5 * FrequencyLattice.of_box(18).prefix(8).k
    return grid, rotations, k


def test_compiled_values_equal_the_formula(case):
    grid, rotations, k = case
    expected = interpolate.sample_grid(grid, interpolate.slice_points(rotations, k))
    assert torch.allclose(_kernels.gather(*case), expected, atol=1e-4)


def test_compiled_gradients_equal_the_formula(case):
    grid, rotations, k = case
    # On the cells' faces the derivative has two values.
    off_faces = rotations[1:]
    value, gradient = _kernels.gather_gradient(grid, off_faces, k)
    expected_value, expected_gradient = interpolate._gather_gradient(grid, off_faces, k)
    inside = (interpolate.slice_points(off_faces, k).frac().abs() - 0.5).abs().amax(-1) < 0.499
    assert torch.allclose(value, expected_value, atol=1e-4)
    assert torch.allclose(gradient[inside], expected_gradient[inside], atol=1e-3)
    assert inside.float().mean() > 0.9


def test_compiled_inserts_equal_the_formula(case, generator):
    _, rotations, k = case
    values = torch.randn(len(rotations), len(k), generator=generator, dtype=torch.complex64)
    weights = torch.rand(len(rotations), len(k), generator=generator)
    for ours, formula in zip(
        _kernels.scatter(values, weights, rotations, k, EXTENT),
        interpolate._scatter(values, weights, rotations, k, EXTENT),
        strict=True,
    ):
        assert torch.allclose(ours, formula, atol=1e-4)


def test_identity_reads_the_grid_itself(case):
    grid, _, _ = case
    k = torch.tensor([[0.0, 0.0], [3.0, -2.0], [0.0, 5.0], [7.0, 7.0]])
    x, y = k.long().unbind(1)
    expected = grid[EXTENT, y + EXTENT, x]
    assert torch.equal(interpolate.slice_grid(grid, torch.eye(3)[None], k)[0], expected)


def test_the_other_half_space_is_the_conjugate(case):
    grid, rotations, k = case
    # The identity reads the plane kx = 0 itself, whose two halves are independent here.
    rotations = rotations[1:]
    plus, minus = interpolate.slice_grid(grid, rotations, k), interpolate.slice_grid(grid, rotations, -k)
    assert torch.allclose(plus[:, 1:], minus[:, 1:].conj(), atol=1e-5)


def test_inserting_is_the_adjoint_of_slicing(case, generator):
    grid, rotations, k = case
    y = torch.randn(len(rotations), len(k), generator=generator, dtype=torch.complex64)
    slices = interpolate.slice_grid(grid, rotations, k)
    inserted, _ = interpolate.insert_slices(y, torch.ones(y.shape), rotations, k, EXTENT)
    left, right = (slices * y.conj()).real.sum(), (grid * inserted.conj()).real.sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4)


def test_weights_of_inserted_slices_sum_to_themselves(case, generator):
    _, rotations, k = case
    weights = torch.rand(len(rotations), len(k), generator=generator)
    _, density = interpolate.insert_slices(weights.to(torch.complex64), weights, rotations, k, EXTENT)
    assert float(density.sum()) == pytest.approx(float(weights.sum()), rel=1e-4)


def loss_of(grid, rotations, k, target):
    return (interpolate.slice_grid(grid, rotations, k) - target).abs().square().double().sum()


def test_gradient_of_the_grid_is_the_finite_difference(case, generator):
    grid, rotations, k = case
    target = torch.randn(len(rotations), len(k), generator=generator, dtype=torch.complex64)
    grid = grid.clone().requires_grad_()
    loss_of(grid, rotations, k, target).backward()
    direction = torch.randn(grid.shape, generator=generator, dtype=torch.complex64)
    step = 1e-2
    with torch.no_grad():
        ahead = loss_of(grid + step * direction, rotations, k, target)
        behind = loss_of(grid - step * direction, rotations, k, target)
    along = float((grid.grad.conj() * direction).real.sum())
    assert float(ahead - behind) / (2 * step) == pytest.approx(along, rel=1e-3)


def test_gradient_of_the_rotations_is_the_finite_difference(generator):
    # A grid that is smooth, so that the step crosses no kink: one linear in the frequency.
    m = torch.arange(-EXTENT, EXTENT + 1.0)
    z, y, x = torch.meshgrid(m, m, m[EXTENT:], indexing="ij")
    grid = torch.complex(torch.zeros_like(x), 0.3 * x - 0.2 * y + 0.5 * z)
    k = FrequencyLattice.of_box(18).prefix(8).k
    rotations = random_rotations(5, generator)
    target = torch.randn(5, len(k), generator=generator, dtype=torch.complex64)
    vector = torch.zeros(5, 3, requires_grad=True)
    loss_of(grid, rotations @ matrix_from_rotvec(vector), k, target).backward()
    step = 1e-2
    for axis in range(3):
        move = step * torch.eye(3)[axis].expand(5, 3)
        ahead = loss_of(grid, rotations @ matrix_from_rotvec(move), k, target)
        behind = loss_of(grid, rotations @ matrix_from_rotvec(-move), k, target)
        assert float(ahead - behind) / (2 * step) == pytest.approx(float(vector.grad[:, axis].sum()), rel=2e-3, abs=0.5)


def test_frequencies_outside_the_grid_are_refused(case):
    grid, rotations, _ = case
    k = torch.tensor([[float(EXTENT), 0.0]])
    with pytest.raises(ValueError, match="half-width"):
        interpolate.slice_grid(grid, rotations, k)
    with pytest.raises(ValueError, match="half-width"):
        interpolate.slice_grid_with_gradient(grid, rotations, k)
    with pytest.raises(ValueError, match="half-width"):
        interpolate.insert_slices(torch.ones(7, 1, dtype=torch.complex64), torch.ones(7, 1), rotations, k, EXTENT)
