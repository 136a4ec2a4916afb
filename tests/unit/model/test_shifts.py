"""Grids of shifts, and the few functions that express them."""

import pytest

from cryoloom.model.poses.shifts import ShiftBasis, cells_across, shift_disc, shift_square
from cryoloom.physics.fourier import FrequencyLattice, shift_phases


@pytest.mark.parametrize(("extent", "points", "band"), [(10.0, 14, 12.0), (2.0, 5, 20.0), (6.0, 1, 4.0)])
def test_a_mixture_of_few_functions_is_every_shift(extent, points, band):
    lattice = FrequencyLattice.of_box(64).prefix(band)
    shifts = shift_square(extent, points)
    basis = ShiftBasis.of_shifts(shifts, lattice, tolerance=1e-3)
    exact = shift_phases(lattice.k, -shifts, lattice.box)
    assert float((basis.phases - exact).abs().max()) < 0.02
    assert len(basis.functions) <= min(len(shifts), 2 * len(lattice))


def test_a_grid_finer_than_the_band_costs_no_more_functions():
    lattice = FrequencyLattice.of_box(64).prefix(6)
    sizes = [len(ShiftBasis.of_shifts(shift_square(8.0, points), lattice).functions) for points in (12, 24)]
    assert sizes[1] <= 1.2 * sizes[0] < 0.5 * 12**2


def test_cells_of_a_square_cover_it():
    grid = shift_square(10.0, 14)
    assert len(grid) == 196
    assert float(grid.max()) == pytest.approx(10 - 10 / 14)
    assert float(grid.mean()) == pytest.approx(0, abs=1e-6)
    assert shift_square(3.0, 1).tolist() == [[0.0, 0.0]]
    assert [cells_across(*case) for case in ((3.0, 6.0), (3.0, 2.0), (3.0, 1.9), (1.0, 5.0))] == [1, 3, 4, 1]


def test_shift_disc_is_a_disc_with_its_centre():
    grid = shift_disc(3.0, 1.0)
    assert len(grid) == 29
    assert (grid == 0).all(1).sum() == 1
    assert float(grid.norm(dim=1).max()) == 3.0
    for mirrored in (-grid, grid.flip(1)):
        assert {tuple(t) for t in mirrored.tolist()} == {tuple(t) for t in grid.tolist()}
    assert len(shift_disc(0.5, 1.0)) == 1
    finer = shift_disc(1.0, 0.25)
    assert float((finer[:, None] - finer).norm(dim=-1).fill_diagonal_(9).min()) == pytest.approx(0.25)
