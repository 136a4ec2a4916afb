"""Rows of TEMPOR's movies whose poses are found, from frames that were scored elsewhere."""

import pandas as pd
import pytest
import torch

from cryoloom.data.particles import Particles
from cryoloom.evaluate.bench import tempor_poses
from cryoloom.evaluate.bench.tables import Notebook
from cryoloom.evaluate.bench.tempor_films import Film, Scored
from cryoloom.evaluate.bench.tempor_poses import Found, FoundSizes
from cryoloom.evaluate.movies import FrameScores

TRUE = torch.linspace(0, 1, 20)


def score(self, run: str, latents: str = "own", found: bool = False) -> Scored:
    assert found
    resolution = 10.0 if "tempor" in run else 12.0 + ("beta-3" not in run)
    scores = FrameScores(torch.full((20,), resolution), torch.ones(20, 16), TRUE, TRUE, *torch.ones(2, 20))
    return Scored(run, scores, TRUE[:, None], span=18.0)


@pytest.fixture
def book(pretended, tmp_path, monkeypatch) -> Notebook:
    table = pd.DataFrame({"movie_id": ["a", "a", "b", "b"], "frame": [0, 1, 0, 1]})
    frames = Particles(table, tmp_path / "particles.star", 24, 1.0, 24)
    monkeypatch.setattr(Film, "score", score)
    monkeypatch.setattr(Found, "_errors", lambda self, run: (8.0 + ("-1" in run), 6.0))
    monkeypatch.setattr(tempor_poses, "cas9_path", lambda _: ("a.cif",))
    monkeypatch.setattr(tempor_poses, "read_particles", lambda _: frames)
    sizes = FoundSizes(box=48, seeds=2, apart=((1.0, 1.0), (3.0, 0.0)))
    return Notebook(pretended, sizes, tmp_path, lambda _: None)


def test_hetem_and_tempor_go_on_from_the_same_network_by_the_same_steps(book, monkeypatch):
    written = {}
    monkeypatch.setattr(tempor_poses, "write_star", lambda path, given: written.update({path.name: given}))
    tempor_poses.read(book)
    assert len(written["apart.star"].movies()) == 4
    first, *rest = [c for c in book.bench.commands if "--system tempor" in c and "--init cropped/hetem-45-1" in c]
    assert rest
    alone, together = first.split(), rest[0].split()
    assert "cropped/data/apart.star" in alone
    assert "cropped/data/particles.star" in together
    assert " ".join(alone).endswith("--beta 3.0 --spread 0.0")
    shared = alone[alone.index("--init") : alone.index("--beta")]
    assert shared == together[together.index("--init") :]
    rows = {row.name: row for row in book.rows}
    gain = rows["tempor --read-poses: mean improvement over hetem, trained on, eq. 16"]
    assert (gain.value, gain.must) == (pytest.approx(100 / 6), 3)
    assert rows["hetem, 45 passes: rotation error, median, most of 2 seeds"].value == 9


def test_all_pixels_go_on_from_one_seed_and_show_the_others(book, monkeypatch):
    monkeypatch.setattr(tempor_poses, "write_star", lambda *_: None)
    tempor_poses.finer(book)
    words = ", all 48 pixels"
    rows = {row.name: row.value for row in book.rows}
    assert rows[f"hetem, 45 passes{words}, seed 1: rotation error, median"] == 9
    assert rows[f"hetem, 45 passes{words}: rotation error, median"] == 8
    assert f"tempor --read-poses{words}: mean improvement over hetem, trained on{words}, eq. 16" in rows
    assert not any("--init found/hetem-45-1" in command or "--box 32" in command for command in book.bench.commands)
