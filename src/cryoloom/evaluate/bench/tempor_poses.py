"""Fig. 8 of TEMPOR: movies whose poses nobody knows, read by a network or found by loom."""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Self

import numpy as np
from torch import cat

from cryoloom.data import read_particles
from cryoloom.data.star_out import write_star
from cryoloom.evaluate.align import align_poses
from cryoloom.evaluate.bench.runs import reconstructed, seeded
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.bench.tempor import PATH, cas9_path
from cryoloom.evaluate.bench.tempor_films import (
    HIGHER,
    Film,
    Pair,
    Scored,
    Sizes,
    best_resolved,
    gain_rows,
    map_rows,
    seeds_said,
)
from cryoloom.evaluate.latents import neighbour_accuracy
from cryoloom.evaluate.truth import match_particles

# What is learnt settles when the rates fall.
_SLOWING = ("--train.last-rate", 0.1)


@dataclass(frozen=True)
class FoundSizes(Sizes):
    """As `Sizes`; tumbling: degrees from frame to frame; small_box: pixels that images are cropped to.

    hypotheses: poses that a network says for each frame. pose_passes: of hetem, for one volume. read_passes: of hetem
    in all before tempor takes over. read_band: of these, Fourier pixels. more_passes: of either from there, at full
    band. read_batch: of both, some movies. apart: β and weight of evenly spread views, of which hetem has the best
    from there.
    """

    tumbling: float = 15.0
    small_box: int = 32
    hypotheses: int = 4
    pose_passes: int = 30
    read_passes: int = 45
    read_band: float = 15.0
    more_passes: int = 20
    read_batch: int = 57
    apart: tuple[tuple[float, float], ...] = ((1.0, 1.0), (3.0, 1.0), (1.0, 0.0))


@dataclass(frozen=True)
class Found:
    """The runs on one film whose poses are found; crop: the option that makes its images smaller, if any."""

    book: Notebook
    film: Film
    crop: tuple[object, ...] = ()

    @classmethod
    def cropped(cls, book: Notebook) -> Self:
        """Those in few pixels."""
        return cls(book, _simulated(book, "cropped"), ("--box", book.sizes.small_box))

    @classmethod
    def whole(cls, book: Notebook) -> Self:
        """Those in all pixels."""
        return cls(book, _simulated(book, "found"))

    @property
    def words(self) -> str:
        """What rows say of the pixels."""
        return "" if self.crop else f", all {self.book.sizes.box} pixels"

    def run(self, name: str, system: str, *options: object, seed: int = 0, file: str = "particles") -> str:
        """Reconstruct a file of the film's data with a system; the run."""
        run = seeded(f"{self.film.name}/{name}", seed)
        given = (*self.crop, "--seed", seed, *options)
        reconstructed(self.book, f"{self.film.name}/data/{file}.star", run, system, *given)
        return run

    def conformed(
        self, system: str, passes: int, init: str, *options: object, name: str = "", batch: int = 0, **given: Any
    ) -> str:
        """A system with z, trained from another run; name: by default the system's; batch: the table's by default."""
        s = self.book.sizes
        size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --train.passes {passes}"
        run = f"{name or system}-after-{init.rpartition('/')[2]}"
        more = (*size.split(), "--train.batch-size", batch or s.batch, *options)
        return self.run(run, system, "--init", init, *more, **given)

    def score(self, runs: list[str], what: str) -> list[Scored]:
        """Rows of the maps of runs with a volume for every frame, medians of seeds."""
        found = [self.film.score(run, found=True) for run in runs]
        map_rows(self.book, what, found)
        same = median(100 * neighbour_accuracy(one.latent.numpy(), one.scores.true.numpy()) for one in found)
        self.book.row(f"{what}: nearest neighbours in z of the same conformation", same, "%", **HIGHER)
        return found

    def pose_rows(self, runs: list[str], what: str) -> None:
        """The rows of runs' rotation errors, medians of seeds."""
        errors = [self._errors(run) for run in runs]
        kinds = ("rotation error, median", "rotation error among frames of one conformation, median")
        for kind, values in zip(kinds, zip(*errors, strict=True), strict=True):
            self.book.row(f"{what}: {kind}", median(values), "°")
            if len(runs) > 1:
                self.book.row(f"{what}: {kind}, most of {len(runs)} seeds", max(values), "°")

    def _errors(self, run: str) -> tuple[float, float]:
        folder = self.book.bench.folder
        particles = read_particles(folder / run / "particles.star")
        truth = read_particles(folder / self.film.name / "data/truth/particles.star")
        rows = match_particles(particles, truth)
        found, true = particles.poses().best_rotation, truth.poses(rows).best_rotation
        kind = truth.column("conformation")[rows]
        own = [align_poses(found[kind == k], true[kind == k]).angle_deg for k in np.unique(kind)]
        return float(align_poses(found, true).angle_deg.median()), float(cat(own).median())


def _simulated(book: Notebook, name: str) -> Film:
    moved = ("--shift", 2, "--tumbling", book.sizes.tumbling)
    return Film(book, name, book.sizes).simulate("constant", cas9_path(book), moved)


def _describe(book: Notebook) -> None:
    s = book.sizes
    book.notes.append(
        f"Cas9-like, SNR {s.snr:g}, {s.movies} × {s.frames} frames of {s.box} pixels of {s.pixel:g} Å, cropped to "
        f"{s.small_box} where not said otherwise; shifts within ±2 px; molecules turn by {s.tumbling:g}° from frame to "
        "frame. Maps of frames are scored after the run's map of each conformation was laid on the true one: nothing "
        "tells which part of a molecule stays while domains travel. Rotation errors are told after one rotation of all "
        "frames and after one for each conformation."
    )


@dataclass(frozen=True)
class Reading(Found):
    """Networks that read poses and z off the frames of a film, from the same beginning."""

    def hetem(self, seed: int) -> str:
        """What either begins with."""
        s = self.book.sizes
        size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --hypotheses {s.hypotheses}"
        given = f"--pose-passes {s.pose_passes} --train.passes {s.read_passes} --beta {s.beta:g}"
        band = ("--train.first-band", s.read_band, "--train.last-band", s.read_band)
        return self.run(f"hetem-{s.read_passes}", "hetem", *size.split(), *given.split(), *band, seed=seed)

    def on(self, first: str, *options: object, **given: Any) -> str:
        """Tempor from there."""
        s = self.book.sizes
        more = ("--read-poses", "--hypotheses", s.hypotheses, *_SLOWING, *options)
        return self.conformed("tempor", s.more_passes, first, *more, batch=s.read_batch, **given)

    def apart(self, first: str, beta: float, spread: float) -> str:
        """The same where every frame is a movie of its own: hetem, trained on."""
        name = f"hetem-beta-{beta:g}-spread-{spread:g}"
        return self.on(first, "--beta", beta, "--spread", spread, name=name, file="apart")

    def best_apart(self, first: str) -> tuple[float, float]:
        """β and spread at which hetem, trained on, resolves frames best, with rows of each."""
        tried = self.book.sizes.apart
        found = [self.film.score(self.apart(first, beta, spread), found=True) for beta, spread in tried]
        for (beta, spread), run in zip(tried, found, strict=True):
            map_rows(self.book, f"hetem, trained on{self.words}, β {beta:g}, spread {spread:g}, seed 0", [run])
        return tried[best_resolved(found)]


def read(book: Notebook) -> None:
    """Poses read off each frame: hetem, and tempor which takes it over and reads them, too; in few pixels."""
    _read(Reading.cropped(book), book.sizes.seeds)


def finer(book: Notebook) -> None:
    """The same in all pixels, where the box does not end the maps; from seed 0, with which hetem finds the poses."""
    reading, s = Reading.whole(book), book.sizes
    for seed in range(1, s.seeds):
        reading.pose_rows([reading.hetem(seed)], f"hetem, {s.read_passes} passes{reading.words}, seed {seed}")
    _read(reading, 1)


def _read(reading: Reading, seeds: int) -> None:
    book, film, words, s = reading.book, reading.film, reading.words, reading.book.sizes
    _describe(book)
    data = book.bench.folder / film.name / "data"
    frames = read_particles(data / "particles.star")
    write_star(
        data / "apart.star", frames.with_columns(movie_id=[f"frame_{row}" for row in range(len(frames))], frame=0)
    )
    first = [reading.hetem(seed) for seed in range(seeds)]
    beta, spread = reading.best_apart(first[0])
    own, others = f"tempor --read-poses{words}", f"hetem, trained on{words}"
    runs = {
        f"hetem, {s.read_passes} passes{words}": first,
        others: [reading.apart(run, beta, spread) for run in first],
        own: [reading.on(run) for run in first],
    }
    for what, of in runs.items():
        reading.pose_rows(of, what)
    begun, longer, ours = (reading.score(of, what) for what, of in runs.items())
    gain_rows(book, own, list(map(Pair, longer, ours)), {"mean": {"must": 3, **HIGHER}}, others)
    gain_rows(book, f"{own}, from what it began with", list(map(Pair, begun, ours)), than="hetem")
    book.row("As published, Cas9, 500 movies: tempor better than HetEM by", 0.8, "Å", **HIGHER)
    book.notes.append(
        f"hetem: {s.hypotheses} poses said for each frame, {s.pose_passes} passes for one volume and then with z, β "
        f"{s.beta:g}, {s.read_passes} passes in all, band {s.read_band:g} pixels. From there it and tempor are trained "
        f"for {s.more_passes} more at full band, {s.read_batch} frames a batch, rates falling to a tenth: hetem as "
        "tempor that has every frame for a movie of its own, at the β and the weight of evenly spread views at which "
        f"its seed 0 resolves frames best, tempor at its defaults. {seeds_said(seeds)}"
    )


def searched(book: Notebook) -> None:
    """Poses found by loom, frame by frame and along movies, and tempor from there."""
    _describe(book)
    for found in (Found.cropped(book), Found.whole(book)):
        _search(found)


def _search(found: Found) -> None:
    s, words, first = found.book.sizes, found.words, found.run("loom", "loom")
    start = ("--poses", f"{first}/particles.star", "--refine", "--temporal-prior")
    runs = {f"loom{words}": first, f"loom --temporal-prior{words}": found.run("loom-in-time", "loom", *start)}
    for what, run in runs.items():
        found.pose_rows([run], what)
        begun = found.conformed("cryodrgn", s.first, run, "--z-start", "none", "--settle-rounds", 0)
        found.score([found.conformed("tempor", s.passes, begun, *_SLOWING)], f"tempor at the poses of {what}")


_MINI = FoundSizes(movies=300, box=48, pixel=3.6, b_factor=0, first=10, passes=15, **{**PATH, "snr": 1.0, "every": 16})
_PAPER = replace(
    _MINI, movies=500, box=128, small_box=64, read_band=31.0, pixel=1.35, width=1024, blocks=3, device="cuda"
)
_SMALL: dict[str, Any] = {**PATH, "snr": 1.0, "every": 6, "frames": 4, "z_dim": 2, "width": 16, "blocks": 1}
_SHORT: dict[str, Any] = {"first": 1, "passes": 1, "pose_passes": 1, "read_passes": 2, "more_passes": 1}
_BOXES: dict[str, Any] = {"box": 24, "small_box": 20, "read_band": 8.0, "pixel": 7.2}
_QUICK = FoundSizes(movies=8, seeds=2, apart=((1.0, 1.0),), hypotheses=2, read_batch=8, **_BOXES, **_SMALL, **_SHORT)

FIG8 = Table(
    name="tempor-fig8",
    title="TEMPOR, Fig. 8: poses unknown",
    about="A volume for every frame of movies whose poses a network reads off each frame, or loom finds.",
    parts={"read": read, "finer": finer, "searched": searched},
    scales={"mini": _MINI, "paper": _PAPER, "quick": _QUICK},
)
