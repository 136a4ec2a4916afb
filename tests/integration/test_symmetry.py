"""A molecule with a point group, searched in its asymmetric unit."""

import json
from pathlib import Path

import torch

from cryoloom.data import read_particles
from cryoloom.data.half_sets import half_sets
from cryoloom.physics.pose import Pose
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import angular_distance, point_group
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.known import start_from_poses
from cryoloom.solve.em.refine import Refinement, RefineSettings
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.scope import Scope
from cryoloom.solve.team import Team

from .conftest import QUICK, correlation, cryoloom, volume_of


def test_c3_is_found_and_kept(tmp_path: Path):
    third = torch.roll(phantom(24, 8.5), 4, dims=2)
    volume = torch.stack([apply_to_volume(third, turn) for turn in point_group("C3")]).sum(0)
    settings = Simulation(box=24, pixel_size=8.5, particles=300, snr=1.0, shift=1.0, seed=1)
    simulate_particles(Conformations.of_volumes([volume]), settings, tmp_path / "data")
    run = tmp_path / "run"
    # Some random starts lead to a map with its axis on the side: several compete.
    competing = ("--ab-initio.starts", 2, "--ab-initio.first-maps", 3, "--ab-initio.temper-iterations", 20)
    cryoloom("reconstruct", tmp_path / "data/particles.star", "-o", run, "--symmetry", "C3", *QUICK, *competing)
    cryoloom("evaluate", run, "--truth", tmp_path / "data/truth")
    found = json.loads((run / "evaluation.json").read_text())
    assert found["rotation_error_deg_median"] < 12
    assert found["resolution_over_oracle"] < 1.25
    mine = volume_of(run)
    assert correlation(apply_to_volume(mine, point_group("C3")[1]), mine) > 0.95


def test_copies_of_a_nearly_threefold_molecule_are_told_apart(tmp_path: Path):
    """From the true poses turned by a random third each: only the copies, tried on every particle, can mend that."""
    third = torch.roll(phantom(32, 6.4), 5, dims=2)
    arms = [apply_to_volume(third, turn) for turn in point_group("C3")]
    volume = torch.stack(arms).sum(0) + 0.25 * torch.roll(arms[0], 4, dims=1)
    settings = Simulation(box=32, pixel_size=6.4, particles=300, snr=5.0, shift=0.0, seed=1)
    simulate_particles(Conformations.of_volumes([volume]), settings, tmp_path / "data")
    particles = read_particles(tmp_path / "data/truth/particles.star")
    true = torch.from_numpy(particles.rotation).float()
    turned = true @ point_group("C3")[torch.arange(300) % 3]
    # One copy has the majority, as after a search that lost two thirds to the others.
    turned[:150] = true[:150]
    images = WorkingImages(particles)
    halves = half_sets(particles, 0)
    refinement = Refinement(images, RefineSettings(), Scope(point_group("C1"), 2.0, 14.0, 28.0), halves, Team())
    state = start_from_poses(refinement, Pose.single(turned))
    before = float((angular_distance(turned, true) < 20).float().mean())
    state = refinement.with_copies(state)
    assert len(state.copies) == 2
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        state = refinement.step(state, False, generator)
    right = float((angular_distance(state.poses.rotation, true) < 20).float().mean())
    assert before < 0.7
    assert right > 0.9
