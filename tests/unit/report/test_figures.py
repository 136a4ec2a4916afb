import numpy as np
import pytest
import torch

from cryoloom.evaluate.maps import surface_level
from cryoloom.physics.so3 import matrix_from_euler, random_rotations
from cryoloom.report.figures import histogram_figure, isosurface, map_images, orientation_figure

BALL_RADIUS = 10


@pytest.fixture
def ball():
    axis = np.arange(48.0) - 24
    x = axis - 5  # the ball lies at x = 5
    return 1 / (1 + np.exp(np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + x**2) - BALL_RADIUS))


@pytest.mark.parametrize("triangles", [30_000, 1_500])
def test_surface_lies_where_the_map_is_in_angstroms(ball, triangles):
    vertices, faces = isosurface(ball, 0.5, 2.0, triangles)
    assert len(faces) <= triangles
    np.testing.assert_allclose((vertices.max(0) + vertices.min(0)) / 2, [10, 0, 0], atol=1.0)
    np.testing.assert_allclose((vertices.max(0) - vertices.min(0)) / 2, 2.0 * BALL_RADIUS, atol=2.0)


def test_level_is_between_solvent_and_molecule(ball):
    noisy = ball + 0.05 * np.random.default_rng(0).standard_normal(ball.shape)
    assert 0.2 < surface_level(noisy) < 0.9


def test_views_from_one_side_make_one_bright_spot():
    poses = matrix_from_euler(torch.tensor([[0.0, 90.0, 0.0]])).expand(500, 3, 3).numpy()
    density = np.asarray(orientation_figure(poses).data[0].z)
    peak = np.unravel_index(np.nanargmax(density), density.shape)
    # rot 0, tilt 90 looks along x: longitude and latitude zero, the middle of the map.
    np.testing.assert_allclose(peak, [density.shape[0] / 2, density.shape[1] / 2], atol=4)
    assert np.isnan(density[0, 0])


def test_uniform_views_are_about_one_everywhere():
    rotation = random_rotations(20_000, torch.Generator().manual_seed(0)).numpy()
    density = np.asarray(orientation_figure(rotation).data[0].z)
    assert np.nanmin(density) > 0.6
    assert np.nanmax(density) < 1.4


@pytest.mark.parametrize("values", [np.ones(50), np.array([1.0, np.nan, 3.0]), np.zeros(1)])
def test_histograms_hold_odd_values(values):
    figure = histogram_figure(values, "x")
    assert sum(figure.data[0].y) == pytest.approx(np.isfinite(values).sum(), abs=1)


def test_planes_are_named_and_embedded(ball):
    images = map_images(ball)
    assert [caption for caption, _ in images["slice"]] == ["slice xy", "slice xz", "slice yz"]
    assert all(uri.startswith("data:image/png;base64,") for row in images.values() for _, uri in row)
