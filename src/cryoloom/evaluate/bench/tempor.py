"""Figs. 4, 7 and 9 of TEMPOR: what a movie's frames gain from each other, against cryoDRGN on the same frames."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.data.movies import movie_numbers
from cryoloom.evaluate.bench.curves import frames_picture, fsc_spread
from cryoloom.evaluate.bench.result import Picture, goal
from cryoloom.evaluate.bench.runs import reconstructed
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.clusters import k_means
from cryoloom.evaluate.film import frames, gif_bytes
from cryoloom.evaluate.latents import adjusted_mutual_information, conformation_correlation, first_component
from cryoloom.evaluate.movies import FrameScores, MovieTruth, fitted_to, improvement, placed_on_truth, score_frames
from cryoloom.evaluate.smoothing import smoothed
from cryoloom.solve.decode import Decoder

# Of rows: what must be reached, what is aimed at.
Goals = dict[str, dict[str, Any]]
# A run's latents; these smoothed along their movies; or those of a reader who was told the conformation of every frame.
Latents = Literal["own", "smoothed", "told"]
HIGHER: dict[str, Any] = {"better": "higher"}
_BESIDE: tuple[Latents, ...] = ("smoothed", "told")
_CAS9 = ("94-179+308-480", "180-307", "481-717", "775-908")


@dataclass(frozen=True)
class Sizes:
    """How much of it is measured: pixel in Å; span of the path from the first conformation to the last, in a unit.

    first, passes: of cryodrgn before tempor takes over, and of either from there. band: Fourier pixels. beta,
    beta_first: of cryodrgn, alone and before tempor, which has its own. batch: of both. every: of so many frames one
    is scored, prime to the frames of a movie so that each place in it is. noisier: SNRs below that of Fig. 7. finer:
    box of its finer images, of the same field of view. seeds: of both systems' training, where a claim hangs on so
    small a gain that one run says little.
    """

    movies: int = 100
    frames: int = 10
    box: int = 48
    pixel: float = 2.5
    span: float = 81.0
    unit: str = "°"
    snr: float = 0.1
    z_dim: int = 1
    width: int = 128
    blocks: int = 2
    first: int = 20
    passes: int = 40
    band: float = 23.0
    beta: float = 0.3
    beta_first: float = 0.05
    batch: int = 20
    tempor: tuple[str, ...] = ()
    every: int = 3
    snrs: tuple[float, ...] = (0.1, 1.0, 10.0)
    widths: tuple[int, ...] = (32, 128, 256)
    noisier: tuple[float, ...] = (0.1, 0.03)
    finer: int = 64
    seeds: int = 3
    device: str = "cpu"


@dataclass(frozen=True)
class Scored:
    """Frames of the run in a folder against their truth: scores, latents (n, Z) of these, what the path spans."""

    run: str
    scores: FrameScores
    latent: Tensor
    span: float

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

    def simulate(self, motion: str, what: tuple[object, ...] = (), more: tuple[object, ...] = ("--shift", 0)) -> None:
        """A molecule, by default the phantom whose half turns, `motion` along its path, each frame seen from anywhere.

        what: the molecule and its path, more: further options, as for `simulate`.
        """
        s, out = self.sizes, f"{self.name}/data"
        what = what or ("phantom", "--turn", s.span)
        movies = f"--movies {s.movies} --frames {s.frames} --motion {motion}"
        grid = f"--box {s.box} --pixel-size {s.pixel:g} --snr {s.snr:g} --seed 0"
        self.book.bench.cryoloom(out, "simulate", *what, *movies.split(), *grid.split(), *more, "-o", out)

    def run(self, system: str, passes: int, init: str = "", beta: float = 0, seed: int = 0) -> Scored:
        """Train a system and score its frames; poses are the true ones. beta: of cryodrgn, the table's by default."""
        s = self.sizes
        run = f"{self.name}/{system}-{passes}" + (f"-after-{Path(init).name}" if init else "") + f"-{seed}" * bool(seed)
        poses = ("--init", init) if init else ("--poses", f"{self.name}/data/truth/particles.star")
        size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --train.passes {passes}"
        band = f"--train.first-band {s.band:g} --train.last-band {s.band:g}"
        steps = f"--train.batch-size {s.batch} --train.coefficients 1"
        published = ("--z-start", "none", "--settle-rounds", 0, "--beta", beta or s.beta)
        more = s.tempor if system == "tempor" else published
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
        return Scored(run, score_frames(decoder, truth, mean, rows, placed), mean[list(rows)], self.sizes.span)

    def pair(self, seed: int = 0) -> "Pair":
        """cryodrgn and, begun from its first passes, tempor, both trained equally long."""
        first, n = self.sizes.first, self.sizes.passes
        begun = self.run("cryodrgn", first, beta=self.sizes.beta_first, seed=seed).run
        return Pair(self.run("cryodrgn", first + n, seed=seed), self.run("tempor", n, begun, seed=seed))


def told(mean: Tensor, conformation: Tensor) -> Tensor:
    """Latent means (N, Z) replaced by their medians over all frames of the same true conformation (N,)."""
    of_each = [mean[conformation == k].median(0).values for k in conformation.unique()]
    return torch.stack(of_each)[conformation.unique(return_inverse=True)[1]]


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
    def better(self) -> float:
        """Share of frames that are better, %."""
        return 100 * float((self.gain > 0).float().mean())


def _rows(book: Notebook, what: str, pairs: list[Pair], goals: Goals | None = None) -> None:
    """Medians over the seeds of pairs, and between what the mean improvement lies."""
    goals, means = goals or {}, [pair.mean for pair in pairs]
    book.row(
        f"{what}: frames better than cryodrgn", median(p.better for p in pairs), "%", **goals.get("better", HIGHER)
    )
    book.row(f"{what}: mean improvement, eq. 16", median(means), "%", **goals.get("mean", HIGHER))
    for words, value in (("least", min(means)), ("most", max(means))) if len(pairs) > 1 else ():
        book.row(f"{what}: mean improvement, {words} of {len(pairs)} seeds", value, "%", **HIGHER)
    _own_rows(book, what, [pair.ours for pair in pairs], goals.get("path", {}))


def _own_rows(book: Notebook, what: str, runs: list[Scored], goals: dict[str, float]) -> None:
    """Medians over the seeds of runs."""
    unit, scores = book.sizes.unit, [run.scores for run in runs]
    resolution, psnr, ssim = (
        median(float(getattr(s, name).mean()) for s in scores) for name in ("resolution", "psnr", "ssim")
    )
    error = median(run.path_error for run in runs)
    book.row(f"{what}: error of the recovered place on the path, mean", error, unit, **goals)
    rank = median(run.rank for run in runs)
    book.row(f"{what}: |Spearman| of latent and place on the path", rank, better="higher")
    book.row(f"{what}: resolution, FSC 0.5, mean of frames", resolution, "Å")
    book.row(f"{what}: PSNR after low-pass, mean", psnr, "dB", better="higher")
    book.row(f"{what}: SSIM after low-pass, mean", ssim, better="higher")


def compared(book: Notebook, film: Film, what: str, goals: Goals, seeds: int = 1) -> dict[str, Scored]:
    """Rows of both systems and of the baseline at better latents, medians of seeds; pictures and runs of the first."""
    pairs = [film.pair(seed) for seed in range(seeds)]
    _own_rows(book, f"{what}, cryodrgn", [pair.baseline for pair in pairs], {})
    _rows(book, f"{what}, tempor", pairs, goals)
    smooth, bound = ([Pair(p.baseline, film.score(p.baseline.run, kind)) for p in pairs] for kind in _BESIDE)
    _rows(book, f"{what}, cryodrgn smoothed", smooth)
    _rows(book, f"{what}, cryodrgn told the conformations", bound)
    (baseline, ours), linear = pairs[0], smooth[0].ours
    s, runs = film.sizes, {"cryodrgn": baseline, "cryodrgn, smoothed": linear, "tempor": ours}
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
        f"{s.pixel:g} Å a pixel, poses known, every frame seen from a direction of its own. Same field (mlp, "
        f"{s.blocks} × {s.width}), encoder, batches ({s.batch}), rate of the field and band ({s.band:g} pixels); "
        f"cryodrgn as published, β {s.beta:g} (0.05 and a faster encoder were worse), for {s.first + s.passes} passes; "
        f"tempor at its defaults for {s.passes} from {s.first} of cryodrgn at β {s.beta_first:g} (0.3 was worse). "
        f"One frame of {s.every} is scored. {'Seed 0.' if seeds == 1 else f'Medians of {seeds} seeds.'}"
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


def _turning(book: Notebook, motion: str, goals: Goals, seeds: int = 1) -> None:
    film, s = Film(book, motion, book.sizes), book.sizes
    film.simulate(motion)
    compared(book, film, f"7bcq-like, {motion}, SNR {s.snr:g}, {s.movies} × {s.frames} frames", goals, seeds)


def constant(book: Notebook) -> None:
    """The paper's movies: constant speed, the same in all, so that the place in the movie tells the angle."""
    goals = {"better": goal(80, 95), "mean": goal(1.5, 5), "path": goal(9, 3, "lower")}
    _turning(book, "constant", goals, book.sizes.seeds)
    book.row("As published, 7bcq, tempor: frames better than cryoDRGN", 95.1, "%", better="higher")
    book.row("As published, 7bcq, tempor: mean improvement", 1.5, "%", better="higher")


def reversing(book: Notebook) -> None:
    """Movies that begin anywhere and turn round: counting frames does not help."""
    _turning(book, "reversing", {})


def cas9_path(book: Notebook) -> tuple[object, ...]:
    """Cas9 and its path, as for `simulate`."""
    ends = (book.data("structures/4CMQ.cif.gz"), book.data("structures/4ZT0_chainA_protein.pdb"))
    return (*ends, "--chain", "A", "--domains", *_CAS9)


def cas9(book: Notebook) -> None:
    """Cas9's lobes on their way from the free enzyme to the one with RNA, domain by domain."""
    _travelling(book, "cas9", "", book.sizes)


def finer(book: Notebook) -> None:
    """The same in more pixels, so that what is told apart is not cut off at Nyquist."""
    s = book.sizes
    pixel, band = s.pixel * s.box / s.finer, s.finer // 2 - 1
    _travelling(book, "cas9-finer", f", box {s.finer}", replace(s, box=s.finer, pixel=pixel, band=band, seeds=1))


def _travelling(book: Notebook, name: str, words: str, s: Sizes) -> None:
    film = Film(book, name, s)
    film.simulate("constant", cas9_path(book))
    what = f"Cas9-like, SNR {s.snr:g}, {s.movies} × {s.frames} frames{words}"
    runs = compared(book, film, what, {"better": goal(85, 99.8), "mean": goal(5, 13.5)}, s.seeds)
    for name in ("cryodrgn", "tempor"):
        scores, z = runs[name].scores, runs[name].latent.numpy()
        state = (scores.true * (s.frames - 1)).round().long().numpy()
        index = adjusted_mutual_information(k_means(z.astype(float), s.frames, 0)[1], state)
        book.row(f"{what}, {name}: adjusted mutual information of {s.frames} clusters of z", index, better="higher")
    book.row("As published, Cas9, tempor: frames better than cryoDRGN", 99.8, "%", better="higher")
    book.row("As published, Cas9, tempor: mean improvement", 13.5, "%", better="higher")
    book.notes.append("REC1, REC2, REC3 and HNH of 4CMQ travel 52, 28, 62 and 3 Å to where 4ZT0 has them.")


def noisier(book: Notebook) -> None:
    """Cas9 again, where every frame says less than the paper's."""
    _at_snrs(book, "cas9", book.sizes.noisier, "constant", cas9_path(book))


def snr(book: Notebook) -> None:
    """Fig. 9a: the gain as the noise grows."""
    _at_snrs(book, "snr", book.sizes.snrs, "reversing")


def _at_snrs(book: Notebook, name: str, snrs: tuple[float, ...], motion: str, what: tuple[object, ...] = ()) -> None:
    """Rows of both systems on the same film at each SNR; what: the molecule and its path, as for `Film.simulate`."""
    for value in snrs:
        film = Film(book, f"{name}-{value:g}", replace(book.sizes, snr=value))
        film.simulate(motion, what)
        pair = film.pair()
        _own_rows(book, f"SNR {value:g}, cryodrgn", [pair.baseline], {})
        _rows(book, f"SNR {value:g}, tempor", [pair])


def pretraining(book: Notebook) -> None:
    """Fig. 9b: from the baseline's weights, or from nothing for as long."""
    film = Film(book, "pretraining", book.sizes)
    film.simulate("reversing")
    baseline, begun = film.pair()
    alone = film.run("tempor", book.sizes.first + book.sizes.passes)
    _rows(book, "tempor from cryodrgn", [Pair(baseline, begun)])
    _rows(book, "tempor from nothing", [Pair(baseline, alone)])


def width(book: Notebook) -> None:
    """Fig. 9c: the width of the decoder."""
    for value in book.sizes.widths:
        film = Film(book, f"width-{value}", replace(book.sizes, width=value))
        film.simulate("reversing")
        _rows(book, f"Width {value}, tempor", [film.pair()])


_PAPER = Sizes(box=128, pixel=1.2, width=1024, blocks=3, first=50, passes=50, band=63, device="cuda")
_TINY = Sizes(movies=6, frames=4, box=24, pixel=5.0, width=16, blocks=1, first=1, passes=1, band=11, every=6)
_QUICK = replace(_TINY, snrs=(1.0,), widths=(16,), seeds=2)
_SCALES = {"mini": Sizes(), "paper": _PAPER, "quick": _QUICK}
_SMALL = {**_SCALES, "mini": Sizes(box=40, pixel=3.0, band=19)}

FIG4 = Table(
    name="tempor-fig4",
    title="TEMPOR, Fig. 4: a rigid turn, frame by frame",
    about=(
        "Every frame of a movie is one image of another conformation. cryodrgn reads each alone, tempor the whole "
        "movie; the map of each frame is compared with its truth (FSC 0.5)."
    ),
    parts={"constant": constant, "reversing": reversing},
    scales=_SCALES,
)

PATH: dict[str, Any] = {"frames": 19, "snr": 0.3, "z_dim": 8, "span": 18.0, "unit": " frames", "every": 5}
_CAS9_SCALES = {
    "mini": Sizes(pixel=3.6, **PATH),
    "paper": replace(_PAPER, pixel=1.35, **PATH),
    "quick": replace(_TINY, pixel=7.2, span=3.0, unit=" frames", z_dim=2, noisier=(0.1,), finer=28),
}

FIG7 = Table(
    name="tempor-fig7",
    title="TEMPOR, Fig. 7: domains on their way",
    about="As Fig. 4, of Cas9, whose domains go from where 4CMQ has them to where 4ZT0 has them.",
    parts={"cas9": cas9, "finer": finer, "noisier": noisier},
    scales=_CAS9_SCALES,
)
FIG9 = Table(
    name="tempor-fig9",
    title="TEMPOR, Fig. 9: noise, pretraining, width",
    about="The movies of tempor-fig4 that turn round at a random place, with one thing changed at a time.",
    parts={"snr": snr, "pretraining": pretraining, "width": width},
    scales=_SMALL,
)
