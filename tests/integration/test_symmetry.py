"""A molecule with a point group, searched in its asymmetric unit."""

import json
from pathlib import Path

import torch

from cryoloom.evaluate.maps import apply_to_volume
from cryoloom.physics.so3 import point_group
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation

from .conftest import QUICK, correlation, cryoloom, volume_of


def test_c3_is_found_and_kept(tmp_path: Path):
    third = torch.roll(phantom(24, 8.5), 4, dims=2)
    volume = torch.stack([apply_to_volume(third, turn) for turn in point_group("C3")]).sum(0)
    settings = Simulation(box=24, pixel_size=8.5, particles=300, snr=1.0, shift=1.0, seed=1)
    simulate_particles(Conformations.of_volumes([volume]), settings, tmp_path / "data")
    run = tmp_path / "run"
    cryoloom("reconstruct", tmp_path / "data/particles.star", "-o", run, "--symmetry", "C3", *QUICK)
    cryoloom("evaluate", run, "--truth", tmp_path / "data/truth")
    found = json.loads((run / "evaluation.json").read_text())
    assert found["rotation_error_deg_median"] < 12
    assert found["resolution_over_oracle"] < 1.25
    mine = volume_of(run)
    assert correlation(apply_to_volume(mine, point_group("C3")[1]), mine) > 0.95
