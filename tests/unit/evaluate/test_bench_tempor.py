"""Rows and pictures of TEMPOR's figures, from frames that were scored elsewhere."""

import pytest
import torch

from cryoloom.evaluate.bench import tempor
from cryoloom.evaluate.bench.curves import frames_picture, fsc_spread
from cryoloom.evaluate.bench.measure import Measured, Workbench
from cryoloom.evaluate.bench.tables import Notebook, tables
from cryoloom.evaluate.bench.tempor import Film, Scored, Sizes, gain
from cryoloom.evaluate.movies import FrameScores

TRUE = torch.linspace(0, 1, 20)


def scored(resolution: float, error: float) -> Scored:
    scores = FrameScores(torch.full((20,), resolution), torch.ones(20, 16), TRUE + error, TRUE, *torch.ones(2, 20))
    return Scored(scores, -TRUE[:, None], span=81.0)


class Pretended(Workbench):
    """A bench whose commands take no time and leave nothing."""

    def cryoloom(self, name: str, *arguments: object) -> Measured:
        self.commands.append(" ".join(map(str, arguments)))
        return Measured(0, 0, 0)


@pytest.fixture
def book(tmp_path) -> Notebook:
    return Notebook(Pretended(tmp_path, tmp_path, "x"), Sizes(), tmp_path, lambda _: None)


def test_gains_are_in_percent_of_the_baseline():
    assert gain(scored(20.0, 0), scored(18.0, 0)).tolist() == pytest.approx([10.0] * 20)
    assert scored(20.0, 0.1).path_error == pytest.approx(8.1, rel=1e-4)
    assert scored(20.0, 0.1).rank == pytest.approx(1.0)


def test_both_systems_are_trained_alike_and_compared(book, monkeypatch):
    monkeypatch.setattr(Film, "score", lambda self, run, smooth=False: scored(18.0 if "tempor" in run else 20.0, 0.05))
    monkeypatch.setattr(tempor, "frames_picture", lambda *_: None)
    monkeypatch.setattr(tempor, "fsc_spread", lambda *_: None)
    tempor.constant(book)
    simulate, half, baseline, ours = book.bench.commands
    assert "--turn 81" in simulate
    assert "--init constant/cryodrgn-20" in ours
    shared = ("--z-dim 1", "--network.width 128", "--train.last-band 23", "--seed 0")
    assert all(word in command for command in (half, baseline, ours) for word in shared)
    assert [c.split("--train.passes ")[1].split()[0] for c in (half, baseline, ours)] == ["20", "60", "40"]
    rows = {row.name: row for row in book.rows}
    better = rows["7bcq-like, constant, SNR 0.1, 100 × 10 frames, tempor: frames better than cryodrgn"]
    assert (better.value, better.must, better.ok) == (100.0, 80.0, True)
    improved = rows["7bcq-like, constant, SNR 0.1, 100 × 10 frames, tempor: mean improvement, eq. 16"]
    assert improved.value == pytest.approx(10)


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    path = frames_picture(tmp_path / "f.png", {"a": torch.randn(9), "b": torch.randn(9)}, TRUE[:9], torch.randn(9))
    assert path.stat().st_size > 1000
    assert fsc_spread(tmp_path / "c.png", {"a": torch.rand(9, 12)}, 2.5).stat().st_size > 1000


def test_the_tables_are_known():
    for name in ("tempor-fig4", "tempor-fig7", "tempor-fig8", "tempor-fig9"):
        assert {"mini", "paper", "quick"} <= tables()[name].scales.keys()
