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


def test_hetem_and_tempor_go_on_from_the_same_network_by_the_same_steps(pretended, tmp_path, monkeypatch):
    table = pd.DataFrame({"movie_id": ["a", "a", "b", "b"], "frame": [0, 1, 0, 1]})
    frames, written = Particles(table, tmp_path / "particles.star", 24, 1.0, 24), {}
    monkeypatch.setattr(Film, "score", score)
    monkeypatch.setattr(Found, "_errors", lambda self, run: (8.0 + ("-1" in run), 6.0))
    monkeypatch.setattr(tempor_poses, "cas9_path", lambda _: ("a.cif",))
    monkeypatch.setattr(tempor_poses, "read_particles", lambda _: frames)
    monkeypatch.setattr(tempor_poses, "write_star", lambda path, given: written.update({path.name: given}))
    sizes = FoundSizes(seeds=2, apart=((1.0, 1.0), (3.0, 0.0)))
    book = Notebook(pretended, sizes, tmp_path, lambda _: None)
    tempor_poses.read(book)
    apart = written["apart.star"]
    assert len(apart.movies()) == len(frames) == 4
    first, *rest = [c for c in book.bench.commands if "--system tempor" in c and "--init found/hetem-45-1" in c]
    assert rest
    alone, together = first.split(), rest[0].split()
    assert "found/data/apart.star" in alone
    assert "found/data/particles.star" in together
    assert " ".join(alone).endswith("--beta 3.0 --spread 0.0")
    shared = alone[alone.index("--init") : alone.index("--beta")]
    assert shared == together[together.index("--init") :]
    rows = {row.name: row for row in book.rows}
    gain = rows["tempor --read-poses: mean improvement over hetem, trained on, eq. 16"]
    assert (gain.value, gain.must) == (pytest.approx(100 / 6), 3)
    assert rows["hetem, 45 passes: rotation error, median, most of 2 seeds"].value == 9
