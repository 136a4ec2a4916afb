"""Rows and pictures of TEMPOR's figures, from frames that were scored elsewhere."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cryoloom.data import read_volume
from cryoloom.data.mrc import write_volume
from cryoloom.evaluate.bench import tempor, tempor_films, tempor_where
from cryoloom.evaluate.bench.catalogue import tables
from cryoloom.evaluate.bench.curves import frames_picture, fsc_spread, grids_picture
from cryoloom.evaluate.bench.tables import Notebook
from cryoloom.evaluate.bench.tempor_films import Film, Pair, Scored, Sizes, told
from cryoloom.evaluate.movies import FrameScores, MovieTruth

TRUE = torch.linspace(0, 1, 20)


def scored(resolution: float, error: float, run: str = "") -> Scored:
    scores = FrameScores(torch.full((20,), resolution), torch.ones(20, 16), TRUE + error, TRUE, *torch.ones(2, 20))
    return Scored(run, scores, -TRUE[:, None], span=81.0)


@pytest.fixture
def book(pretended, tmp_path) -> Notebook:
    return Notebook(pretended, Sizes(), tmp_path, lambda _: None)


def test_gains_are_in_percent_of_the_baseline():
    pair = Pair(scored(20.0, 0), scored(18.0, 0))
    assert pair.gain.tolist() == pytest.approx([10.0] * 20)
    assert (pair.mean, pair.better) == (pytest.approx(10), 100)
    assert (pair.area_better, pair.psnr_better) == (0, 0)
    sharper = scored(18.0, 0)
    sharper.scores.curves[:5] += 0.1
    sharper.scores.psnr[:2] += 1
    better = Pair(pair.baseline, sharper)
    assert (better.area_better, better.psnr_better) == (pytest.approx(25), pytest.approx(10))
    assert scored(20.0, 0.1).path_error == pytest.approx(8.1, rel=1e-4)
    assert scored(20.0, 0.1).rank == pytest.approx(1.0)


def pretended_score(self, run: str, latents: str = "own") -> Scored:
    # The seed that ends a run's name makes tempor better, beginning with cryodrgn worse.
    seed = int(run.rpartition("-")[2]) if run.endswith(("-1", "-2")) else 0
    return scored(18.0 + ("after" in run) - seed**2 if "tempor" in run else 20.0, 0.05, run)


class PretendedVae:
    """Stands for cryoDRGN: each latent is the number of a map, dark on bright as its images are."""

    out = "peer"

    def __init__(self, maps: torch.Tensor, folder):
        self.true, self.folder, self.z = maps, folder, np.array([[0.0], [2.0], [1.0], [2.0], [0.0], [1.0]])

    def maps(self, z: np.ndarray) -> list:
        files = [self.folder / f"{i}.mrc" for i in range(len(z))]
        for file, number in zip(files, z[:, 0].astype(int), strict=True):
            write_volume(file, -self.true[number], 4.0)
        return files


def test_cryodrgns_own_frames_are_scored_at_their_latents(book, monkeypatch, tmp_path):
    maps = torch.rand(3, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    vae = PretendedVae(maps, tmp_path)
    kind = torch.from_numpy(vae.z[:, 0]).long()
    truth = MovieTruth(maps, kind, kind / 2, 4.0)
    monkeypatch.setattr(tempor.Decoder, "of_run", lambda _: None)
    monkeypatch.setattr(tempor.MovieTruth, "of", lambda *_: truth)
    film = Film(book, "constant", replace(book.sizes, every=2))
    found = tempor._found_by(vae, film, scored(9.0, 0))
    assert torch.equal(found.scores.true, truth.coordinate[::2])
    assert found.latent[:, 0].tolist() == [0, 1, 0]
    assert torch.allclose(found.scores.curves, torch.ones(3, 12), atol=1e-4)


def test_both_systems_are_trained_alike_and_compared(book, monkeypatch):
    monkeypatch.setattr(Film, "score", pretended_score)
    monkeypatch.setattr(tempor_films, "frames_picture", lambda *_: None)
    shown: list[list[str]] = []
    monkeypatch.setattr(tempor_films, "show_movie", lambda book, film, runs, file: shown.append(runs))
    monkeypatch.setattr(tempor_films, "fsc_spread", lambda *_: None)
    tempor.constant(book)
    simulate, *trained = book.bench.commands
    assert "--turn 81" in simulate
    both, begun, unlinked = trained[:6], trained[6:12], trained[12:]
    assert [int(c.split("--seed ")[1].split()[0]) for c in trained] == [*[0, 0, 1, 1, 2, 2] * 2, 0, 1, 2]
    assert all("--z-dim 1" in c and "--network.width 128" in c and "--train.last-band 15" in c for c in trained)
    passes = [c.split("--train.passes ")[1].split()[0] for c in trained]
    assert passes == ["60"] * 6 + ["20", "40"] * 3 + ["60"] * 3
    assert all(c.endswith("--dynamics.prior normal") for c in (*begun[1::2], *unlinked))
    assert "--init constant/cryodrgn-20-beta-0.05-1" in begun[3]
    assert all(c.endswith("--dynamics.prior transition") for c in both[1::2])
    rows = {row.name: row for row in book.rows}
    better = rows["7bcq-like, constant, SNR 0.1, 100 × 10 frames, tempor: frames better than cryodrgn"]
    assert (better.value, better.must, better.ok) == (100.0, 80.0, True)
    assert shown == [["constant/cryodrgn-60", "constant/tempor-60-transition"]]
    published = rows["7bcq-like, constant, SNR 0.1, 100 × 10 frames, tempor as published: mean improvement, eq. 16"]
    assert published.value == pytest.approx(10)
    improved = rows["7bcq-like, constant, SNR 0.1, 100 × 10 frames, tempor: mean improvement, eq. 16"]
    assert improved.value == pytest.approx(15)
    spread = [rows[improved.name.replace("eq. 16", f"{w} of 3 seeds")].value for w in ("least", "most")]
    assert spread == pytest.approx([10, 30])


def test_cryodrgn_has_the_best_of_several_beta_at_each_noise(book, monkeypatch):
    def score(self, run: str, latents: str = "own") -> Scored:
        best = {"cas9-10": "beta-3", "cas9-0.1": "beta-0.3"}[self.name]
        return scored(9.0 if "tempor" in run or latents == "smoothed" else 10.0 + (best not in run), 0, run)

    monkeypatch.setattr(Film, "score", score)
    monkeypatch.setattr(tempor, "cas9_path", lambda _: ("a.cif",))
    drawn: dict = {}
    monkeypatch.setattr(tempor, "fsc_spread", lambda path, curves, pixel: drawn.update(curves))
    travelling = replace(book.sizes, snrs=(10.0, 0.1), seeds=2, unit=" frames")
    book.sizes = tempor.ChangingSizes(travelling=travelling)
    tempor.snr(book)
    assert list(drawn) == [f"SNR {snr}, {system}" for snr in ("10", "0.1") for system in ("cryodrgn", "tempor")]
    second = [c for c in book.bench.commands if "--system cryodrgn" in c and "--seed 1" in c]
    assert ["--beta 3" in second[0], "--beta 0.3" in second[1]] == [True, True]
    rows = {row.name: row for row in book.rows}
    assert rows["SNR 0.1, cryodrgn, β 1, seed 0: resolution, FSC 0.5, mean of frames"].value == 11
    assert rows["SNR 0.1, cryodrgn: resolution, FSC 0.5, mean of frames"].value == 10
    assert rows["SNR 0.1, tempor: mean improvement, eq. 16"].value == pytest.approx(10)
    assert rows["SNR 10, cryodrgn smoothed: mean improvement, eq. 16"].value == pytest.approx(10)
    assert rows["SNR 10, tempor: error of the recovered place on the path, mean"].unit == " frames"


def test_what_pretraining_gains_is_told_beside_both_systems(book, monkeypatch):
    monkeypatch.setattr(Film, "score", pretended_score)
    tempor.pretraining(book)
    rows = {row.name: row.value for row in book.rows}
    # Begun from cryodrgn 19, 18 and 15 Å; from nothing 18, 17 and 14.
    gained = "tempor, what pretraining gains: mean improvement"
    assert rows[f"{gained} over from nothing, eq. 16"] == pytest.approx(-100 / 17)
    assert rows[f"{gained}, least of 3 seeds"] == pytest.approx(-100 / 14)
    assert rows["tempor with N(0, 1), from cryodrgn: mean improvement, eq. 16"] == pytest.approx(10)


def test_every_width_is_measured_by_the_narrower_one(book, monkeypatch):
    found = {"width-32": 14.0, "width-128": 12.0, "width-256": 10.0, "width-512": 11.0}
    monkeypatch.setattr(Film, "score", lambda self, run, *_: scored(found[self.name], 0, run))
    tempor.width(book)
    rows = {row.name: row.value for row in book.rows}
    assert rows["Width 256, tempor, for 128: mean improvement over 128, eq. 16"] == pytest.approx(100 / 6)
    assert rows["Width 512, tempor, for 256: frames better than 256"] == 0
    assert not [name for name in rows if name.startswith("Width 32, tempor, for")]


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    path = frames_picture(tmp_path / "f.png", {"a": torch.randn(9), "b": torch.randn(9)}, TRUE[:9], torch.randn(9))
    assert path.stat().st_size > 1000
    assert fsc_spread(tmp_path / "c.png", {"a": torch.rand(9, 12)}, 2.5).stat().st_size > 1000


def test_gains_are_mapped_over_motion_noise_and_movies(book, monkeypatch):
    monkeypatch.setattr(Film, "score", pretended_score)
    drawn: dict = {}
    monkeypatch.setattr(tempor_where, "grids_picture", lambda path, panels, rows, columns, name: drawn.update(panels))
    book.sizes = tempor_where.MapSizes(spans=(27.0, 81.0), counts=(5, 6), snrs=(0.1, 1.0, 10.0))
    tempor_where.gains(book)
    assert {label: grid.shape for label, grid in drawn.items()} == {"5 movies": (2, 3), "6 movies": (2, 3)}
    assert drawn["6 movies"][1, 2] == pytest.approx(10)
    simulated = [command for command in book.bench.commands if command.startswith("simulate")]
    assert len({c.split("-o ")[1] for c in simulated}) == len(simulated) == 12
    assert sum("--turn 27" in c and "--movies 5" in c and "--snr 10" in c for c in simulated) == 1


def test_the_measured_series_becomes_cubes_in_its_order(book, tmp_path, monkeypatch):
    pages = [np.full((4, 6, 8), value, dtype=np.uint8) for value in (255, 51)]
    (tmp_path / "liquid").mkdir()
    with tarfile.open(tmp_path / tempor_where._SERIES, "w:gz") as archive:
        for name, volume in (("001.tif", pages[1]), ("000.tif", pages[0])):
            first, *rest = (Image.fromarray(page) for page in volume)
            first.save(tmp_path / name, save_all=True, append_images=rest)
            archive.add(tmp_path / name, name)
    monkeypatch.setattr(tempor_where, "compared", lambda *_: {})
    tempor_where.etching(book)
    maps = [read_volume(tmp_path / f"etching-{i:02d}.mrc")[0] for i in range(2)]
    assert [volume.shape for volume in maps] == [(8, 8, 8)] * 2
    assert [float(volume.sum()) for volume in maps] == pytest.approx([4 * 6 * 8, 4 * 6 * 8 / 5])
    assert float(maps[0][2:6, 1:7].min()) == 1
    assert "etching-00.mrc etching-01.mrc" in book.bench.commands[0]


def test_grids_and_films_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    panels = {"a": np.array([[1.0, -2.0]]), "b": np.zeros((1, 2))}
    assert grids_picture(tmp_path / "g.png", panels, ["r"], ["c", "d"], "%").stat().st_size > 1000


def test_who_is_told_the_conformation_reads_all_its_frames_alike():
    mean = torch.tensor([[0.0], [5.0], [1.0], [7.0], [9.0]])
    assert told(mean, torch.tensor([2, 4, 2, 2, 4])).flatten().tolist() == [1, 5, 1, 1, 5]


def test_the_tables_are_known():
    for name in ("tempor-fig4", "tempor-fig7", "tempor-fig8", "tempor-fig9", "tempor-map", "tempor-liquid"):
        assert {"mini", "paper", "quick"} <= tables()[name].scales.keys()
