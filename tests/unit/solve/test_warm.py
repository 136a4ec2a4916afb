"""What a run begins with that another has left."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import write_volume
from cryoloom.solve.run import Run, RunConfig
from cryoloom.solve.warm import NOTHING, Begun


@pytest.fixture
def run(tmp_path) -> Run:
    """A run in a box of 16 with noise and a mask."""
    made = Run.create(tmp_path / "run", RunConfig(particles=Path("/data/particles.star")))
    state = {"step": 1, "generator": torch.zeros(1), "states": {"refine": {"noise": torch.arange(8.0), "band": 3.0}}}
    made.save_checkpoint(1, state)
    ball = torch.zeros(16, 16, 16)
    ball[5:11, 5:11, 5:11] = 1
    write_volume(made.path / "volumes/mask.mrc", ball, 3.0)
    return made


def test_noise_and_mask_are_taken(run: Run):
    begun = Begun.of_run(run.path, 16)
    assert begun.noise is not None
    assert begun.mask is not None
    assert torch.equal(begun.noise, torch.arange(8.0))
    assert begun.mask[8, 8, 8] == 1
    assert begun.mask[1, 1, 1] == 0


def test_in_another_box_the_mask_is_scaled_and_the_noise_is_not_taken(run: Run):
    begun = Begun.of_run(run.path, 24)
    assert begun.noise is None
    assert begun.mask is not None
    assert begun.mask.shape == (24, 24, 24)
    assert begun.mask[12, 12, 12] > 0.8
    assert float(begun.mask.min()) >= 0
    assert float(begun.mask.max()) <= 1


def test_a_run_that_left_nothing_gives_nothing(tmp_path):
    made = Run.create(tmp_path / "empty", RunConfig(particles=Path("/data/particles.star")))
    assert Begun.of_run(made.path, 16) == Begun.of_run(None, 16) == NOTHING
