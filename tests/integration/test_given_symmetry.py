"""Poses that are given with a point group: on whose axes they are, and whether the map has it at all."""

import json
from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles, write_star
from cryoloom.data.cryosparc import axes_turn, volume_on_cryosparcs_axes, write_cs
from cryoloom.data.mrc import read_volume
from cryoloom.physics.pose import Pose
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import angular_distance, point_group
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation

from .conftest import correlation, cryoloom, volume_of


@pytest.fixture(scope="module")
def d3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles of a D3 molecule with their true poses, and the same on cryoSPARC's axes."""
    folder = tmp_path_factory.mktemp("d3")
    one = torch.roll(phantom(32, 6.4), (3, 1, 5), dims=(0, 1, 2))
    volume = torch.stack([apply_to_volume(one, turn) for turn in point_group("D3")]).sum(0)
    settings = Simulation(box=32, pixel_size=6.4, particles=400, snr=1.0, shift=1.0, seed=1)
    simulate_particles(Conformations.of_volumes([volume]), settings, folder / "data")
    true = read_particles(folder / "data/truth/particles.star")
    write_cs(folder / "theirs.cs", true, "D3")
    rotation = true.poses().best_rotation @ torch.from_numpy(axes_turn("D3")).float()
    write_star(folder / "wrong.star", true.with_poses(Pose.single(rotation, true.poses().best_shift)))
    return folder


def alarms(run: Path) -> list[str]:
    return [alarm["name"] for alarm in json.loads((run / "alarms.json").read_text())]


def test_cryosparcs_poses_are_turned_to_our_axes_and_back(d3: Path, tmp_path: Path):
    cryoloom("reconstruct", d3 / "theirs.cs", "--poses", "known", "--symmetry", "D3", "-o", tmp_path / "run")
    assert "symmetry-absent" not in alarms(tmp_path / "run")
    truth = read_volume(d3 / "data/truth/volume.mrc")[0]
    assert correlation(volume_of(tmp_path / "run"), truth) > 0.9
    cryoloom("export", tmp_path / "run", "--to", "cryosparc", "-o", tmp_path / "back")
    before, after = read_particles(d3 / "theirs.cs"), read_particles(tmp_path / "back/particles.cs")
    assert angular_distance(before.poses().best_rotation, after.poses().best_rotation).max() < 0.05
    theirs = read_volume(tmp_path / "back/volume_map.mrc")[0]
    turn = torch.from_numpy(axes_turn("D3")).float()
    assert correlation(apply_to_volume(theirs, turn), volume_of(tmp_path / "run")) > 0.99
    assert correlation(theirs, volume_of(tmp_path / "run")) < 0.9


def test_a_symmetry_that_the_map_does_not_have_is_an_alarm(d3: Path, tmp_path: Path):
    star = d3 / "wrong.star"
    cryoloom("reconstruct", star, "--poses", "known", "--symmetry", "D3", "-o", tmp_path / "wrong")
    assert "symmetry-absent" in alarms(tmp_path / "wrong")
    cryoloom("reconstruct", star, "--poses", "known", "--symmetry", "C3", "-o", tmp_path / "part")
    assert "symmetry-absent" not in alarms(tmp_path / "part")


@pytest.mark.parametrize("symmetry", ["C7", "D2", "D4", "T", "O", "I"])
def test_other_groups_have_the_same_axes(symmetry: str):
    volume = phantom(16, 12.0)
    assert volume_on_cryosparcs_axes(volume, symmetry) is volume


@pytest.mark.parametrize("box", [16, 17])
def test_maps_are_turned_exactly(box: int):
    volume = torch.zeros(box, box, box)
    c = box // 2
    volume[c + 1, c, c + 3] = 1
    turned = volume_on_cryosparcs_axes(volume, "D7")
    # x = turn · x_cryosparc: what lies on our x lies on y there.
    assert turned[c + 1, c + 3, c] == 1
    assert turned.sum() == 1
