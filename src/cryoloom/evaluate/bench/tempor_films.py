"""What the benchmarks of TEMPOR share: films, systems that are trained on them, and the scores of their frames."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.data.movies import movie_numbers
from cryoloom.evaluate.bench.curves import frames_picture, fsc_spread
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.runs import reconstructed, seeded
from cryoloom.evaluate.bench.tables import Notebook
from cryoloom.evaluate.film import frames, gif_bytes
from cryoloom.evaluate.latents import conformation_correlation, first_component
from cryoloom.evaluate.movies import FrameScores, MovieTruth, fitted_to, improvement, placed_on_truth, score_frames
from cryoloom.evaluate.smoothing import smoothed
from cryoloom.model.conformation.dvae import Prior
from cryoloom.solve.decode import Decoder

# Of rows: what must be reached, what is aimed at.
Goals = dict[str, dict[str, Any]]
# A run's latents; these smoothed along their movies; or those of a reader who was told the conformation of every frame.
Latents = Literal["own", "smoothed", "told"]
HIGHER: dict[str, Any] = {"better": "higher"}
_BESIDE: tuple[Latents, ...] = ("smoothed", "told")
_BASELINE = "cryodrgn"
# Images and networks of the paper, as for `Sizes`.
PAPER: dict[str, Any] = {"box": 128, "pixel": 1.2, "width": 1024, "blocks": 3, "first": 50, "passes": 50}
PAPER |= {"coefficients": 1, "band": 63, "b_factor": 0, "device": "cuda"}


@dataclass(frozen=True)
class Sizes:
    """How much of it is measured: pixel in Å; span of the path from the first conformation to the last, in a unit.

    first, passes: of cryodrgn before tempor takes over, as published, and of either from there; from nothing each is
    trained for their sum. coefficients: part of an image's that a step compares. band: Fourier pixels. b_factor: of
    the images, Å², so that the FSC of what cryodrgn finds crosses 0.5 where the paper's does and not in the last shell
    of a small box, where neither system could better the other. beta, beta_first: of cryodrgn, alone and before
    tempor, which has its own. batch: of both. every: of so many frames one is scored, prime to the frames of a movie
    so that each place in it is. faded_box, faded_b_factor: of the film of Fig. 7 that fades, of the same field of
    view. betas: of cryodrgn, where the best of them is its own at each SNR. seeds: of both systems' training, where a
    claim hangs on so small a gain that one run says little. cryodrgn: cryoDRGN's own command.
    """

    movies: int = 100
    frames: int = 10
    box: int = 32
    pixel: float = 3.75
    span: float = 81.0
    unit: str = "°"
    snr: float = 0.1
    z_dim: int = 1
    width: int = 128
    blocks: int = 2
    first: int = 20
    passes: int = 40
    coefficients: float = 0.4
    band: float = 15.0
    b_factor: float = 900.0
    beta: float = 0.3
    beta_first: float = 0.05
    batch: int = 20
    every: int = 3
    snrs: tuple[float, ...] = (0.1, 1.0, 10.0)
    widths: tuple[int, ...] = (32, 128, 256, 512)
    betas: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    faded_box: int = 40
    faded_b_factor: float = 700.0
    seeds: int = 3
    device: str = "cpu"
    cryodrgn: str = "cryodrgn"

    @property
    def all_passes(self) -> int:
        """What a system is trained for that nothing was trained before."""
        return self.first + self.passes


@dataclass(frozen=True)
class Scored:
    """Frames of the run in a folder against their truth: scores, latents (n, Z) of these, what the path spans."""

    run: str
    scores: FrameScores
    latent: Tensor
    span: float

    @property
    def resolution(self) -> float:
        """Mean resolution of the frames, FSC 0.5, Å."""
        return float(self.scores.resolution.mean())

    @property
    def path_error(self) -> float:
        """Mean distance of the recovered map from its true place on the path, in the unit of the span."""
        return self.span * float((self.scores.found - self.scores.true).abs().mean())

    @property
    def rank(self) -> float:
        """|Spearman's ρ| of the latent's first component with the true place on the path."""
        return conformation_correlation(self.latent.numpy(), self.scores.true.numpy())


@dataclass(frozen=True)
class Film:
    """A simulated movie set in the folder `name` of a bench, and runs on it."""

    book: Notebook
    name: str
    sizes: Sizes

    def simulate(self, motion: str, what: tuple[object, ...] = (), more: tuple[object, ...] = ("--shift", 0)) -> Self:
        """A molecule, by default the phantom whose half turns, `motion` along its path, each frame seen from anywhere.

        what: the molecule and its path, more: further options, as for `simulate`.
        """
        s, out = self.sizes, f"{self.name}/data"
        what = what or ("phantom", "--turn", s.span)
        movies = f"--movies {s.movies} --frames {s.frames} --motion {motion}"
        grid = f"--box {s.box} --pixel-size {s.pixel:g} --snr {s.snr:g} --b-factor {s.b_factor:g} --seed 0"
        self.book.bench.cryoloom(out, "simulate", *what, *movies.split(), *grid.split(), *more, "-o", out)
        return self

    def run(
        self, system: str, passes: int, init: str = "", beta: float = 0, seed: int = 0, prior: Prior = "normal"
    ) -> Scored:
        """Train a system and score its frames; poses are the true ones.

        beta: of cryodrgn, the table's by default. prior: of tempor.
        """
        s = self.sizes
        run = f"{self.name}/{system}-{passes}" + f"-{prior}" * (prior != "normal") + f"-beta-{beta:g}" * (beta > 0)
        run = seeded(run + (f"-after-{Path(init).name}" if init else ""), seed)
        poses = ("--init", init) if init else ("--poses", f"{self.name}/data/truth/particles.star")
        size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --train.passes {passes}"
        band = f"--train.first-band {s.band:g} --train.last-band {s.band:g}"
        steps = f"--train.batch-size {s.batch} --train.coefficients {s.coefficients:g}"
        published = ("--z-start", "none", "--settle-rounds", 0, "--beta", beta or s.beta)
        more = ("--dynamics.prior", prior) if system == "tempor" else published
        given = ("--seed", seed, *poses, *size.split(), *steps.split(), *band.split(), *more)
        reconstructed(self.book, f"{self.name}/data/particles.star", run, system, *given)
        return self.score(run)

    def score(self, run: str, latents: Latents = "own", found: bool = False) -> Scored:
        """Score a run's frames at latents of one kind; found: so are its poses."""
        decoder = Decoder.of_run(self.book.bench.folder / run)
        truth = MovieTruth.of(decoder, self.book.bench.folder / self.name / "data/truth")
        mean = decoder.z
        if latents == "smoothed":
            mean = smoothed(mean, *movie_numbers(decoder.particles))
        if latents == "told":
            mean = told(mean, truth.conformation)
        rows = range(0, len(mean), self.sizes.every)
        placed = placed_on_truth(decoder, truth) if found else None
        return Scored(run, score_frames(decoder.volume, truth, mean, rows, placed), mean[list(rows)], self.sizes.span)

    def pair(self, seed: int = 0, beta: float = 0) -> "Pair":
        """cryodrgn, at its β or the table's, and tempor, both from nothing and trained equally long."""
        passes = self.sizes.all_passes
        baseline = self.run("cryodrgn", passes, beta=beta, seed=seed)
        return Pair(baseline, self.run("tempor", passes, seed=seed, prior="transition"))

    def begun(self, seed: int = 0, prior: Prior = "normal") -> "Pair":
        """cryodrgn's first passes and tempor from there, trained equally long in all; with N(0, 1) as published."""
        s = self.sizes
        first = self.run("cryodrgn", s.first, beta=s.beta_first, seed=seed)
        return Pair(first, self.run("tempor", s.passes, first.run, seed=seed, prior=prior))

    def tuned(self, what: str) -> float:
        """Of the table's β the one at which cryodrgn resolves frames best, with rows of each."""
        found = [self.run("cryodrgn", self.sizes.all_passes, beta=beta) for beta in self.sizes.betas]
        for beta, run in zip(self.sizes.betas, found, strict=True):
            own_rows(self.book, f"{what}, cryodrgn, β {beta:g}, seed 0", [run], {})
        return self.sizes.betas[best_resolved(found)]

    def unlinked(self, pair: "Pair", seed: int = 0) -> "Pair":
        """Of a pair, cryodrgn, and tempor that expects N(0, 1) of each frame, from nothing and trained as long."""
        return pair._replace(ours=self.run("tempor", self.sizes.all_passes, seed=seed))


def told(mean: Tensor, conformation: Tensor) -> Tensor:
    """Latent means (N, Z) replaced by their medians over all frames of the same true conformation (N,)."""
    kinds, of = conformation.unique(return_inverse=True)
    return torch.stack([mean[conformation == kind].median(0).values for kind in kinds])[of]


class Pair(NamedTuple):
    """A run that is measured against another on the same frames."""

    baseline: Scored
    ours: Scored

    @property
    def gain(self) -> Tensor:
        """Improvement factors (n,) of frames, eq. 16, in percent."""
        return 100 * improvement(self.baseline.scores.resolution, self.ours.scores.resolution)

    @property
    def mean(self) -> float:
        """Mean improvement, %."""
        return float(self.gain.mean())

    @property
    def area_better(self) -> float:
        """Share of frames with a larger area under the FSC, %: where it hovers about 0.5, its crossing says little."""
        ours, baseline = self.ours.scores.curves.mean(1), self.baseline.scores.curves.mean(1)
        return 100 * float((ours > baseline).float().mean())

    @property
    def psnr_better(self) -> float:
        """Share of frames with a higher PSNR, %."""
        return 100 * float((self.ours.scores.psnr > self.baseline.scores.psnr).float().mean())

    @property
    def better(self) -> float:
        """Share of frames that are better, %."""
        return 100 * float((self.gain > 0).float().mean())


def rows_of_pairs(
    book: Notebook, what: str, pairs: list[Pair], goals: Goals | None = None, than: str = _BASELINE
) -> None:
    """What pairs gain, and what those are worth that are measured: medians over their seeds."""
    gain_rows(book, what, pairs, goals, than)
    own_rows(book, what, [pair.ours for pair in pairs], (goals or {}).get("path", {}))


def gain_rows(book: Notebook, what: str, pairs: list[Pair], goals: Goals | None = None, than: str = _BASELINE) -> None:
    """Medians over the seeds of pairs, and between what the mean improvement lies; than: what each is measured by."""
    goals, means = goals or {}, [pair.mean for pair in pairs]
    better, mean = (median(getattr(pair, name) for pair in pairs) for name in ("better", "mean"))
    over = "" if than == _BASELINE else f" over {than}"
    book.row(f"{what}: frames better than {than}", better, "%", **goals.get("better", HIGHER))
    book.row(f"{what}: mean improvement{over}, eq. 16", mean, "%", **goals.get("mean", HIGHER))
    for words, value in (("least", min(means)), ("most", max(means))) if len(pairs) > 1 else ():
        book.row(f"{what}: mean improvement, {words} of {len(pairs)} seeds", value, "%", **HIGHER)
    by = {"by the area under the FSC": "area_better", "by PSNR": "psnr_better"}
    for words, name in by.items():
        book.row(f"{what}: frames better {words}", median(getattr(pair, name) for pair in pairs), "%", **HIGHER)


def own_rows(book: Notebook, what: str, runs: list[Scored], goals: dict[str, float]) -> None:
    """Medians over the seeds of runs."""
    error = median(run.path_error for run in runs)
    book.row(f"{what}: error of the recovered place on the path, mean", error, book.sizes.unit, **goals)
    rank = median(run.rank for run in runs)
    book.row(f"{what}: |Spearman| of latent and place on the path", rank, **HIGHER)
    map_rows(book, what, runs)
    book.row(f"{what}: SSIM after low-pass, mean", median(float(run.scores.ssim.mean()) for run in runs), **HIGHER)


def map_rows(book: Notebook, what: str, runs: list[Scored]) -> None:
    """Medians over the seeds of runs: how near the maps of frames are to their truth."""
    book.row(f"{what}: resolution, FSC 0.5, mean of frames", median(run.resolution for run in runs), "Å")
    area = median(float(run.scores.curves.mean()) for run in runs)
    book.row(f"{what}: area under the FSC, mean of frames", area, **HIGHER)
    psnr = median(float(run.scores.psnr.mean()) for run in runs)
    book.row(f"{what}: PSNR after low-pass, mean", psnr, "dB", **HIGHER)


def seeds_said(seeds: int) -> str:
    """What a note says of how many seeds rows are of."""
    return "Seed 0." if seeds == 1 else f"Medians of {seeds} seeds."


def best_resolved(runs: list[Scored]) -> int:
    """Place of the run that resolves frames best."""
    return min(range(len(runs)), key=lambda place: runs[place].resolution)


def compared(book: Notebook, film: Film, what: str, goals: Goals, seeds: int = 1, beta: float = 0) -> dict[str, Scored]:
    """Rows of the systems and of the baseline at better latents, medians of seeds; pictures and runs of the first.

    beta: of cryodrgn, the table's by default.
    """
    pairs = [film.pair(seed, beta) for seed in range(seeds)]
    begun = [film.begun(seed) for seed in range(seeds)]
    published = [Pair(pair.baseline, start.ours) for pair, start in zip(pairs, begun, strict=True)]
    unlinked = [film.unlinked(pair, seed) for seed, pair in enumerate(pairs)]
    own_rows(book, f"{what}, cryodrgn", [pair.baseline for pair in pairs], {})
    rows_of_pairs(book, f"{what}, tempor", pairs, goals)
    rows_of_pairs(book, f"{what}, tempor as published", published)
    rows_of_pairs(book, f"{what}, tempor with N(0, 1)", unlinked)
    first = f"cryodrgn's first {film.sizes.first} passes"
    gain_rows(book, f"{what}, tempor as published after {first}", begun, than=first)
    longer = [Pair(start.baseline, pair.baseline) for start, pair in zip(begun, pairs, strict=True)]
    gain_rows(book, f"{what}, cryodrgn", longer, than=first)
    smooth, bound = ([Pair(p.baseline, film.score(p.baseline.run, kind)) for p in pairs] for kind in _BESIDE)
    rows_of_pairs(book, f"{what}, cryodrgn smoothed", smooth)
    rows_of_pairs(book, f"{what}, cryodrgn told the conformations", bound)
    (baseline, ours), s = pairs[0], film.sizes
    how = "at which its seed 0 resolves frames best" if beta else "0.05 and a faster encoder were worse"
    runs = {"cryodrgn": baseline, "cryodrgn, smoothed": smooth[0].ours}
    runs |= {"tempor as published": published[0].ours, "tempor with N(0, 1)": unlinked[0].ours, "tempor": ours}
    stem = f"tempor_{film.name.replace('-', '_')}"
    file = f"{stem}.png"
    latents = {name: torch.from_numpy(first_component(run.latent.numpy())) for name, run in runs.items()}
    frames_picture(book.images / file, latents, s.span * ours.scores.true, pairs[0].gain, s.unit)
    book.pictures.append(Picture(file, f"Latent and true place on the path, and improvement factors ({film.name})."))
    curves = {name: run.scores.curves for name, run in runs.items()}
    fsc_spread(book.images / f"{stem}_fsc.png", curves, s.pixel)
    book.pictures.append(Picture(f"{stem}_fsc.png", f"FSC to the truth, mean and spread of frames ({film.name})."))
    show_movie(book, film, [baseline.run, ours.run], f"{stem}.gif")
    book.notes.append(
        f"{s.pixel:g} Å a pixel, B-factor {s.b_factor:g} Å², poses known, every frame seen from a direction of its "
        f"own. Same field (mlp, {s.blocks} × {s.width}), encoder, batches ({s.batch}; a step compares "
        f"{100 * s.coefficients:.0f} % of the coefficients), rate of the field and band ({s.band:g} pixels); cryodrgn "
        f"as published, β {beta or s.beta:g} ({how}), and tempor at its defaults (β 0.5 and 2 and a faster encoder "
        f"were worse) or with `--dynamics.prior normal` for {s.all_passes} passes; tempor as published, with that, "
        f"for {s.passes} from {s.first} of cryodrgn at β {s.beta_first:g} (0.3 was worse), which is its own beginning. "
        f"One frame of {s.every} is scored. {seeds_said(seeds)}"
    )
    return runs


def show_movie(book: Notebook, film: Film, runs: list[str], file: str) -> None:
    """The maps of one movie's frames as runs have them and as they truly are, side by side, as a GIF."""
    decoders = [Decoder.of_run(book.bench.folder / run) for run in runs]
    truth = MovieTruth.of(decoders[0], book.bench.folder / film.name / "data/truth")
    rows = next(iter(decoders[0].particles.movies().values())).tolist()
    true = [truth.maps[int(truth.conformation[row])] for row in rows]
    made = [[d.volume(d.z[row]) for row in rows] for d in decoders]
    drawn = frames(
        [fitted_to(v, t)[0].float() for maps in (*made, true) for v, t in zip(maps, true, strict=True)], sides=1
    )
    beside = [np.concatenate(drawn[i :: len(rows)], 1) for i in range(len(rows))]
    with replacing(book.images / file) as temporary:
        temporary.write_bytes(gif_bytes(beside, back=True))
    caption = f"The first movie, frame by frame ({film.name}): cryodrgn, tempor, truth; up to two thirds of Nyquist."
    book.pictures.append(Picture(file, caption))
