"""Poses that a network read wrongly are found out by a search of some particles."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import matrix_from_rotvec, point_group, random_rotations
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.misread import misread_share
from cryoloom.solve.scope import Scope
from cryoloom.solve.stages import Stage

BOX, PIXEL, N = 32, 3.6, 60


@pytest.fixture
def known_of(tmp_path, scale_of):
    """A model whose map is a volume (D, D, D), seen in images, and the true poses of these."""

    def know(volume: torch.Tensor) -> tuple[Any, Pose]:
        settings = Simulation(box=BOX, pixel_size=PIXEL, particles=N, snr=5.0, shift=1.0, seed=0)
        simulate_particles([volume], settings, tmp_path)
        particles = read_particles(tmp_path / "truth/particles.star")
        images, true = WorkingImages(particles, torch.device("cpu")), particles.poses()
        evidence = images.evidence(torch.arange(N), first_noise(images), BOX / 2 - 1)
        slices = FourierSlice.of_volume(volume, 2).project(true.best_rotation.float(), evidence.lattice)
        seen = scale_of(slices, evidence, true.best_shift.float() / PIXEL) * volume
        return SimpleNamespace(images=images, conformation=None, map=lambda band, z: seen), true

    return know


def share(known: tuple[Any, Pose], rotation: torch.Tensor, group: str = "C1") -> float:
    model, true = known
    stage = Stage("poses", 0, "infer", (), BOX / 2 - 1, 1, 0.0)
    scope, mask = Scope(point_group(group), 2.0, 0.45 * BOX, 0.9 * BOX), soft_sphere(BOX, 0.45 * BOX)
    poses = Pose.single(rotation, true.best_shift)
    return misread_share(model, stage, scope, mask, poses, first_noise(model.images))


def test_right_poses_and_loose_ones_are_none(known_of, molecule):
    known = known_of(molecule)
    true = known[1].best_rotation.float()
    assert share(known, true) == 0
    loose = matrix_from_rotvec(torch.tensor([0.2, 0.0, 0.0]))
    assert share(known, loose @ true) == 0


def test_the_share_of_wrong_ones_is_told(known_of, molecule, generator):
    known = known_of(molecule)
    true = known[1].best_rotation.float()
    wrong = torch.where((torch.arange(N) % 3 == 0)[:, None, None], random_rotations(N, generator), true)
    assert share(known, wrong) == pytest.approx(1 / 3, abs=0.05)


def test_a_turn_of_the_molecules_symmetry_is_no_other_pose(known_of, molecule):
    # The box's first row and column have no partner.
    known = known_of(molecule + molecule.flip(1, 2).roll((1, 1), (1, 2)))
    turned = known[1].best_rotation.float() @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    assert share(known, turned) > 0.2
    assert share(known, turned, "C2") == 0
