"""Rotations against RELION's written-out formula, and grids and groups against what they promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryoloom.physics import so3

ANGLE = st.floats(-180, 180)


def relion_matrix(rot: float, tilt: float, psi: float) -> torch.Tensor:
    """`Euler_angles2matrix` of RELION, term by term."""
    a, b, g = math.radians(rot), math.radians(tilt), math.radians(psi)
    ca, cb, cg, sa, sb, sg = math.cos(a), math.cos(b), math.cos(g), math.sin(a), math.sin(b), math.sin(g)
    cc, cs, sc, ss = cb * ca, cb * sa, sb * ca, sb * sa
    rows = [
        [cg * cc - sg * sa, cg * cs + sg * ca, -cg * sb],
        [-sg * cc - cg * sa, -sg * cs + cg * ca, sg * sb],
        [sc, ss, cb],
    ]
    return torch.tensor(rows, dtype=torch.float64)


@given(ANGLE, st.floats(0, 180), ANGLE)
def test_euler_angles_are_those_of_relion(rot, tilt, psi):
    ours = so3.matrix_from_euler(torch.tensor([rot, tilt, psi], dtype=torch.float64))
    assert torch.allclose(ours, relion_matrix(rot, tilt, psi), atol=1e-10)


@given(ANGLE, st.floats(0.01, 179.99), ANGLE)
def test_euler_angles_come_back(rot, tilt, psi):
    angles = torch.tensor([rot, tilt, psi], dtype=torch.float64)
    back = so3.euler_from_matrix(so3.matrix_from_euler(angles))
    turns = (back - angles + 180) % 360 - 180
    assert turns.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tilt", [0.0, 1e-5, 1e-3, 179.999, 180.0])
def test_euler_angles_at_the_poles_give_the_same_matrix(tilt, dtype):
    angles = torch.tensor([[30.0, tilt, 70.0], [-170.0, tilt, 15.0], [90.0, tilt, -90.0]], dtype=dtype)
    matrix = so3.matrix_from_euler(angles)
    again = so3.matrix_from_euler(so3.euler_from_matrix(matrix))
    assert (again - matrix).abs().max() < 1e-6


def test_tilt_is_between_0_and_180(generator):
    tilt = so3.euler_from_matrix(so3.random_rotations(200, generator))[:, 1]
    assert ((tilt >= 0) & (tilt <= 180)).all()


@pytest.mark.parametrize(
    "rotations",
    [
        lambda g: so3.matrix_from_6d(torch.randn(50, 6, generator=g)),
        lambda g: so3.matrix_from_rotvec(torch.randn(50, 3, generator=g)),
        lambda g: so3.random_rotations(50, g),
        lambda g: so3.RotationGrid(1).rotations(),
    ],
    ids=["6d", "rotvec", "random", "grid"],
)
def test_matrices_are_rotations(rotations, generator):
    r = rotations(generator)
    assert torch.allclose(r @ r.transpose(-1, -2), torch.eye(3).expand_as(r), atol=1e-5)
    assert torch.allclose(torch.linalg.det(r), torch.ones(len(r)), atol=1e-5)


def test_6d_of_the_first_two_rows_is_the_matrix(generator):
    r = so3.random_rotations(20, generator)
    assert torch.allclose(so3.matrix_from_6d(r[:, :2].flatten(-2)), r, atol=1e-5)


@given(st.floats(0.001, 179.9))
def test_distance_is_the_angle_of_the_turn(angle):
    axis = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), dim=0)
    base = so3.matrix_from_euler(torch.tensor([10.0, 70.0, -40.0], dtype=torch.float64))
    turned = base @ so3.matrix_from_rotvec(axis * math.radians(angle))
    assert float(so3.angular_distance(base, turned)) == pytest.approx(angle, rel=1e-6)


def test_random_rotations_are_uniform(generator):
    r = so3.random_rotations(20_000, generator)
    assert r.mean(0).abs().max() < 0.02
    angle = so3.angular_distance(r, torch.eye(3))
    # The density of the angle ω under the uniform measure is (1 − cos ω)/π: its mean is π/2 + 2/π.
    assert float(angle.mean()) == pytest.approx(math.degrees(math.pi / 2 + 2 / math.pi), abs=1)


def test_grid_of_15_degrees_has_4608_rotations():
    grid = so3.RotationGrid.with_spacing(15)
    assert (grid.level, len(grid), grid.n_directions, grid.n_inplane) == (2, 4608, 192, 24)
    assert len(grid.rotations()) == 4608
    assert so3.RotationGrid.with_spacing(7.5).level == 3
    assert so3.RotationGrid.with_spacing(8).level == 3
    assert so3.RotationGrid.with_spacing(100).level == 0


@pytest.mark.parametrize("level", [0, 1, 2])
def test_grid_covers_all_rotations(level, generator):
    grid = so3.RotationGrid(level)
    rotations = so3.random_rotations(500, generator)
    trace = torch.einsum("nij,mij->nm", rotations, grid.rotations()).amax(1)
    distance = torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))
    assert distance.max() < 0.9 * grid.spacing_deg


@pytest.mark.parametrize("level", [0, 1, 2])
def test_children_lie_around_their_parent_and_tile_the_finer_grid(level):
    grid, finer = so3.RotationGrid(level), so3.RotationGrid(level + 1)
    children = grid.children(torch.arange(len(grid)))
    assert torch.equal(children.flatten().sort().values, torch.arange(len(finer)))
    distance = so3.angular_distance(finer.rotations()[children], grid.rotations()[:, None])
    assert distance.max() < 0.55 * grid.spacing_deg


def test_part_of_a_grid_is_the_grid_at_these_integers():
    grid = so3.RotationGrid(1)
    index = torch.tensor([0, 7, 575, 100])
    assert torch.equal(grid.rotations(index), grid.rotations()[index])


GROUPS = [
    ("C1", 1),
    ("C2", 2),
    ("c5", 5),
    ("D1", 2),
    ("D2", 4),
    ("D7", 14),
    ("T", 12),
    ("O", 24),
    ("I", 60),
    ("I1", 60),
]


@pytest.mark.parametrize(("name", "order"), GROUPS)
def test_point_groups_are_groups(name, order):
    group = so3.point_group(name)
    assert group.shape == (order, 3, 3)
    assert torch.equal(group[0], torch.eye(3))
    products = (group[:, None] @ group[None]).flatten(0, 1)
    distance = (products[:, None] - group[None]).abs().amax((-1, -2))
    assert ((distance < 1e-4).sum(1) == 1).all()


RELION_AXES = [
    ("C4", 4, (0, 0, 1)),
    ("D3", 3, (0, 0, 1)),
    ("D3", 2, (1, 0, 0)),
    ("T", 3, (0, 0, 1)),
    ("T", 2, (0, 0.816496, 0.577350)),
    ("O", 3, (1, 1, 1)),
    ("O", 4, (0, 0, 1)),
    ("I", 2, (0, 0, 1)),
    ("I2", 5, (0.525731114, 0, 0.850650807)),
    ("I2", 3, (0, 0.356822076, 0.934172364)),
    ("I1", 2, (1, 0, 0)),
    ("I1", 5, (0.85065080702670, 0, -0.5257311142635)),
    ("I1", 3, (0.9341723640, 0.3568220765, 0)),
]


@pytest.mark.parametrize(("name", "n", "axis"), RELION_AXES)
def test_symmetry_axes_stand_where_relion_has_them(name, n, axis):
    unit = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0)
    turn = so3.matrix_from_rotvec(unit * 2 * math.pi / n).float()
    assert (so3.point_group(name) - turn).abs().amax((-1, -2)).min() < 1e-4


@pytest.mark.parametrize("name", ["", "C", "C0", "X3", "I5", "D-2", "T2"])
def test_unknown_point_groups_are_refused(name):
    with pytest.raises(ValueError, match="point group"):
        so3.point_group(name)


@pytest.mark.parametrize(("name", "order"), [("C1", 1), ("C3", 3), ("D2", 4), ("O", 24), ("I", 60)])
def test_asymmetric_unit_is_one_cell_of_the_group(name, order, generator):
    group = so3.point_group(name)
    rotations = so3.random_rotations(6_000, generator)
    kept = so3.asymmetric_unit(rotations, group)
    share = 1 / order
    assert float(kept.float().mean()) == pytest.approx(share, abs=4 * math.sqrt(share / 6_000))
    copies = torch.stack([so3.asymmetric_unit(rotations[:500] @ g, group) for g in group])
    assert (copies.sum(0) >= 1).all()


@pytest.mark.parametrize("name", ["C1", "C3", "D2", "O"])
def test_the_nearest_equivalent_is_a_turn_by_the_group_and_none_is_nearer(name, generator):
    group = so3.point_group(name)
    reference = so3.random_rotations(20, generator)[:, None]
    rotation = so3.random_rotations(60, generator).view(20, 3, 3, 3)
    found = so3.nearest_equivalent(rotation, reference, group)
    every = rotation[:, :, None] @ group
    assert float(so3.angular_distance(every, found[:, :, None]).amin(2).max()) < 0.1
    nearest = so3.angular_distance(every, reference[:, :, None]).amin(2)
    assert torch.allclose(so3.angular_distance(found, reference), nearest, atol=0.05)
