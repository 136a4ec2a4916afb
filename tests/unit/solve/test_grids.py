"""Bands and angles of a search: they follow the molecule's size in Å and its symmetry, and fit the box."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from cryoloom.model.poses.search import PoseSearch
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import RotationGrid, asymmetric_unit, point_group
from cryoloom.solve.em.abinitio import AbInitioSettings, Bands
from cryoloom.solve.em.grids import STEPS, finest_step, search_settings
from cryoloom.solve.scope import Scope

PIXEL_SIZE = 2.5


def scope_of(diameter_px: float, symmetry: str = "C1") -> Scope:
    return Scope(point_group(symmetry), 3.0, diameter_px / 2, diameter_px)


def images_of(box: int, pixel_size: float = PIXEL_SIZE) -> SimpleNamespace:
    """All that bands ask of images."""
    return SimpleNamespace(box=box, pixel_size=pixel_size)


def resolutions(bands: Bands, images: SimpleNamespace) -> list[float]:
    return [images.box * images.pixel_size / band for band in bands[:2]]


@pytest.mark.parametrize(("symmetry", "step"), [("C1", 15.0), ("D2", 15.0), ("D4", 7.5), ("O", 7.5), ("I", 7.5)])
def test_the_finest_grid_grows_with_the_symmetry(symmetry: str, step: float):
    assert finest_step(point_group(symmetry)) == step


@pytest.mark.parametrize("symmetry", ["C1", "C4", "D2", "D7", "T", "O", "I"])
def test_the_finest_grid_is_no_larger_in_its_asymmetric_unit_than_the_usual_one(symmetry: str):
    group = point_group(symmetry)
    rotations = RotationGrid.with_spacing(finest_step(group)).rotations()
    unit = int(asymmetric_unit(rotations, group).sum())
    assert unit < 1.1 * len(RotationGrid.with_spacing(15.0))
    finer = [step for step in STEPS if step < finest_step(group)]
    assert not finer or len(RotationGrid.with_spacing(finer[0])) / len(group) > 4608


@pytest.mark.parametrize("symmetry", ["C1", "D2", "O", "I"])
@pytest.mark.parametrize("diameter_px", [12.0, 30.0, 47.0])
def test_searches_fit_their_box_and_their_angles_the_band(symmetry: str, diameter_px: float):
    box, scope = 48, scope_of(diameter_px, symmetry)
    lattice = FrequencyLattice.of_box(box)
    for band in (2.5, 4.0, 9.0, 17.3, 24.0):
        found = search_settings(scope, box, band, 8)
        assert found.last_band == band
        assert found.first_band <= band
        # The base grid must not see more than its angles can tell.
        assert scope.cycles(found.first_band, box) * found.angle_step <= 110 + 1e-3
        finest = found.angle_step / 2**found.subdivisions
        assert found.subdivisions == 4 or finest * scope.cycles(band, box) <= 20
        # And no level is idle.
        assert not found.subdivisions or 2 * finest * scope.cycles(band, box) > 20
        bands = PoseSearch(found, lattice, scope.group, scope.shift_px).bands
        assert bands == sorted(bands)
        assert max(bands) <= box / 2 + 1e-6


def test_padding_changes_no_search_in_angstrom():
    scope = scope_of(40.0)
    tight, padded = (search_settings(scope, box, 0.2 * box, 8) for box in (48, 96))
    assert padded.last_band == pytest.approx(2 * tight.last_band)
    assert padded.first_band == pytest.approx(2 * tight.first_band)
    assert padded.subdivisions == tight.subdivisions
    for attempt in range(3):
        pairs = [(images_of(box), scope) for box in (64, 128)]
        a, b = (Bands.of(AbInitioSettings(), s, i, attempt) for i, s in pairs)
        assert resolutions(a, pairs[0][0]) == pytest.approx(resolutions(b, pairs[1][0]))
        assert a.finest == b.finest


def test_coarser_pixels_change_no_band_in_angstrom():
    fine, coarse = images_of(96, 2.0), images_of(64, 3.0)
    of = [resolutions(Bands.of(AbInitioSettings(), scope_of(120.0 / i.pixel_size), i), i) for i in (fine, coarse)]
    assert of[0] == pytest.approx(of[1])


@pytest.mark.parametrize("symmetry", ["C1", "D2", "D5", "O", "I"])
def test_each_attempt_begins_at_another_band(symmetry: str):
    images = images_of(128)
    found = [Bands.of(AbInitioSettings(), scope_of(60.0, symmetry), images, attempt) for attempt in range(4)]
    assert len({bands.first for bands in found[:3]}) == 3
    assert found[3] == found[0]
    for bands in found:
        assert 1.249 * bands.first <= bands.last <= 10.001 * 128 / 60
    by_band = sorted(found[:3])
    for low, high in pairwise(by_band):
        assert high.last >= low.last
        assert high.finest <= low.finest


def test_a_molecule_of_many_copies_begins_higher():
    images = images_of(128)
    names = ("C1", "D3", "T", "D7", "O", "I")
    first = [Bands.of(AbInitioSettings(), scope_of(60.0, name), images).first for name in names]
    assert first == sorted(first)
    assert len(set(first)) == 3
    # A third of the diameter without symmetry.
    assert 60 * PIXEL_SIZE / (128 * PIXEL_SIZE / first[0]) == pytest.approx(3.2)


def test_bands_end_at_the_box():
    for diameter_px in (5.0, 9.0):
        bands = Bands.of(AbInitioSettings(), scope_of(diameter_px), images_of(32), 2)
        assert 2.5 <= bands.first <= bands.last <= 15


def test_resolutions_are_taken_as_given():
    images = images_of(64)
    settings = AbInitioSettings(first_resolution=32.0, last_resolution=16.0)
    for attempt in (0, 2):
        assert Bands.of(settings, scope_of(40.0), images, attempt)[:2] == (5.0, 10.0)
    backwards = Bands.of(AbInitioSettings(first_resolution=16.0, last_resolution=32.0), scope_of(40.0), images)
    assert backwards.last >= backwards.first


def test_cycles_and_bands_are_inverse():
    scope = scope_of(40.0)
    assert scope.cycles(scope.band(7.0, 64), 64) == pytest.approx(7.0)
    half = scope.scaled(0.5)
    assert half.band(7.0, 32) == pytest.approx(scope.band(7.0, 64))
    assert torch.equal(half.group, scope.group)
    assert math.isclose(half.shift_px, 1.5)
