"""Which conformations particles keep: those that an encoder says, or those that it was taught."""

import pytest
import torch

from cryoloom.solve import latents as module
from cryoloom.solve.latents import Latents, said_or_taught

SAID, TAUGHT = (Latents(torch.full((40, 2), value), torch.zeros(40, 2)) for value in (1.0, 2.0))


@pytest.mark.parametrize(
    ("said", "taught", "kept"),
    [(96.0, 95.0, SAID), (97.0, 95.0, SAID), (98.0, 95.0, TAUGHT), (101.0, 95.0, TAUGHT), (101.0, 102.0, SAID)],
    ids=["nearly all", "more than half", "less than half", "worse than nothing", "nothing was to be said"],
)
def test_an_encoder_that_says_less_than_half_is_not_listened_to(monkeypatch, said, taught, kept):
    misfits = {0.0: 100.0, 1.0: said, 2.0: taught}
    monkeypatch.setattr(module, "_misfit", lambda model, stage, poses, mean, noise, index: misfits[float(mean[0, 0])])

    class Forty:
        images = range(40)

    assert said_or_taught(Forty, None, None, SAID, TAUGHT, None) is kept
