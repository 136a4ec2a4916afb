"""Half-maps that were found apart: a small turn and a move of the second one are taken back, with its poses."""

import math
from types import SimpleNamespace

import pytest
import torch

from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec, point_group, random_rotations
from cryoloom.solve.em.pseudosymmetry import Copies
from cryoloom.solve.em.refine import ParticlePoses, Refinement, RefineSettings, RefineState
from cryoloom.solve.scope import Scope
from cryoloom.solve.team import Team

BOX, N = 32, 40
FIRST, SECOND = torch.arange(0, N, 2), torch.arange(1, N, 2)


def refinement_of(symmetry: str) -> Refinement:
    images = SimpleNamespace(box=BOX, device=torch.device("cpu"), pixel_size=2.0)
    scope = Scope(point_group(symmetry), 3.0, 14.0, 26.0)
    return Refinement(images, RefineSettings(), scope, (FIRST, SECOND), Team())


def state_of(first: torch.Tensor, second: torch.Tensor, poses: ParticlePoses) -> RefineState:
    sphere, shells = torch.ones(BOX, BOX, BOX), torch.ones(BOX // 2)
    both = (first, second)
    return RefineState(
        1, 9.0, shells, both, both, (first + second) / 2, sphere, shells, poses, Copies.none(), 1.0, 0.0, -math.inf
    )


def apart(volume: torch.Tensor, turn: torch.Tensor, move: torch.Tensor) -> tuple[RefineState, ParticlePoses]:
    """The state where half 2 lies turned and moved, and the poses where it does not."""
    generator = torch.Generator().manual_seed(4)
    true = ParticlePoses.unknown(N)._replace(
        rotation=random_rotations(N, generator), shift=torch.randn(N, 2, generator=generator)
    )
    rotation, shift = true.rotation.clone(), true.shift.clone()
    rotation[SECOND] = true.rotation[SECOND] @ turn.T
    shift[SECOND] = true.shift[SECOND] - (rotation[SECOND] @ move)[:, :2]
    poses = true._replace(rotation=rotation, shift=shift)
    return state_of(volume, apply_to_volume(volume, turn, False, move), poses), true


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


TURN = matrix_from_rotvec(torch.deg2rad(torch.tensor([2.0, -1.0, 2.0])))
MOVE = torch.tensor([0.6, -0.7, 0.4])


def test_poses_and_maps_come_back(molecule):
    state, true = apart(molecule, TURN, MOVE)
    before = [difference(m[1], molecule) for m in (state.maps, state.half_maps)]
    found = refinement_of("C1").in_one_frame(state)
    assert float(angular_distance(state.poses.rotation, true.rotation)[SECOND].min()) > 2.9
    assert float(angular_distance(found.poses.rotation, true.rotation).max()) < 0.3
    assert float((found.poses.shift - true.shift).abs().max()) < 0.1
    for pair, was in zip((found.maps, found.half_maps), before, strict=True):
        assert torch.equal(pair[0], molecule)
        assert difference(pair[1], molecule) < 0.25 * was
    # The state that was handed in is whole.
    assert float(angular_distance(state.poses.rotation, true.rotation)[SECOND].min()) > 2.9


def test_projections_stay_with_their_map(molecule):
    """A particle of half 2 looks the same before and after: its pose moves with the map."""
    state, _ = apart(molecule, TURN, MOVE)
    found = refinement_of("C1").in_one_frame(state)
    lattice = FrequencyLattice.of_box(BOX).prefix(8.0)
    seen = []
    for s in (state, found):
        slices = FourierSlice.of_volume(s.maps[1]).project(s.poses.rotation[SECOND], lattice)
        seen.append(slices * shift_phases(lattice.k, s.poses.shift[SECOND], BOX))
    assert float((seen[1] - seen[0]).norm() / seen[0].norm()) < 0.05


def test_only_what_the_axis_leaves_free_is_moved(molecule):
    group = point_group("C4")
    whole = torch.stack([apply_to_volume(molecule, g.T) for g in group]).mean(0)
    about = matrix_from_rotvec(torch.deg2rad(torch.tensor([0.0, 0.0, 3.0])))
    state, true = apart(whole, about, torch.tensor([0.0, 0.0, 1.0]))
    found = refinement_of("C4").in_one_frame(state)
    assert float(angular_distance(found.poses.rotation, true.rotation).max()) < 0.3
    assert float((found.poses.shift - true.shift).abs().max()) < 0.1
    # A tilt of the axis is no free choice of a frame: such poses are wrong, and stay for the next search.
    tilt = matrix_from_rotvec(torch.deg2rad(torch.tensor([3.0, 0.0, 0.0])))
    state, true = apart(whole, tilt, torch.zeros(3))
    found = refinement_of("C4").in_one_frame(state)
    turned = found.poses.rotation[SECOND].transpose(1, 2) @ state.poses.rotation[SECOND]
    assert float((turned[:, 2, 2] - 1).abs().max()) < 1e-5


@pytest.mark.parametrize("symmetry", ["D2", "T", "O", "I"])
def test_a_group_of_several_axes_leaves_nothing(molecule, symmetry: str):
    state, _ = apart(molecule, TURN, MOVE)
    assert refinement_of(symmetry).in_one_frame(state) is state
