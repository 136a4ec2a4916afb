"""Figs. 4, 7 and 9 of TEMPOR: what a movie's frames gain from each other, against cryoDRGN on the same frames."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from cryoloom.evaluate.bench.curves import fsc_spread
from cryoloom.evaluate.bench.hetero_peer import Maps, Vae
from cryoloom.evaluate.bench.peers import Peer
from cryoloom.evaluate.bench.result import Picture, goal
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.bench.tempor_films import (
    PAPER,
    Film,
    Goals,
    Pair,
    Scored,
    Sizes,
    compared,
    gain_rows,
    own_rows,
    rows_of_pairs,
    seeds_said,
)
from cryoloom.evaluate.clusters import k_means
from cryoloom.evaluate.latents import adjusted_mutual_information
from cryoloom.evaluate.movies import MovieTruth, score_frames
from cryoloom.solve.decode import Decoder


@dataclass(frozen=True)
class ChangingSizes(Sizes):
    """As `Sizes`; travelling: of the film of Cas9 whose noise changes."""

    travelling: Sizes = field(default_factory=Sizes)


_GOALS: Goals = {"better": goal(80, 95), "mean": goal(1.5, 5), "path": goal(9, 3, "lower")}
_CAS9 = ("94-179+308-480", "180-307", "481-717", "775-908")


def _turning(book: Notebook, motion: str) -> tuple[Film, str]:
    """The phantom's film and what its rows are of."""
    s = book.sizes
    what = f"7bcq-like, {motion}, SNR {s.snr:g}, {s.movies} × {s.frames} frames"
    return Film(book, motion, s).simulate(motion), what


def constant(book: Notebook) -> None:
    """The paper's movies: constant speed, the same in all, so that the place in the movie tells the angle."""
    compared(book, *_turning(book, "constant"), _GOALS, book.sizes.seeds)
    book.row("As published, 7bcq, tempor: frames better than cryoDRGN", 95.1, "%", better="higher")
    book.row("As published, 7bcq, tempor: mean improvement", 1.5, "%", better="higher")


def reversing(book: Notebook) -> None:
    """Movies that begin anywhere and turn round: counting frames does not help."""
    compared(book, *_turning(book, "reversing"), {}, book.sizes.seeds)


def against(book: Notebook) -> None:
    """cryoDRGN itself on the frames of the paper's movies, beside cryodrgn and tempor."""
    peer, s = Peer(book), book.sizes
    film, what = _turning(book, "constant")
    pairs, theirs = [film.pair(seed) for seed in range(s.seeds)], []
    for seed, pair in enumerate(pairs):
        vae = Vae.trained(peer, f"{film.name}/data", s.box, s.z_dim, s.all_passes, s.width, seed)
        theirs.append(_found_by(vae, film, pair.ours))
    what = f"{what}, against {peer.name}"
    own_rows(book, f"{what}, its train_vae", theirs, {})
    for name, which, goals in (("cryodrgn", 0, None), ("tempor", 1, _GOALS)):
        measured = [Pair(other, pair[which]) for other, pair in zip(theirs, pairs, strict=True)]
        rows_of_pairs(book, f"{what}, {name}", measured, goals, peer.name)
    book.notes.append(
        f"{peer.name} train_vae, networks of 3 × {s.width}, {s.all_passes} epochs, else its defaults: batches of 8, "
        "β = 1/z dimensions. It knows no B-factor: its maps are blurred, which PSNR and SSIM see and the FSC does not. "
        + seeds_said(s.seeds)
    )


def _found_by(vae: Vae, film: Film, ours: Scored) -> Scored:
    folder, s = film.book.bench.folder, film.sizes
    truth = MovieTruth.of(Decoder.of_run(folder / ours.run), folder / film.name / "data/truth")
    rows = np.arange(0, len(vae.z), s.every)
    maps = Maps(vae.maps(vae.z[rows]), rows, truth.maps[0] + truth.maps[-1])
    mean = torch.from_numpy(vae.z).float()
    row_at = {tuple(mean[row].tolist()): int(row) for row in rows}
    scores = score_frames(lambda z: maps(row_at[tuple(z.tolist())]), truth, mean, rows.tolist())
    return Scored(vae.out, scores, mean[rows], s.span)


def cas9_path(book: Notebook) -> tuple[object, ...]:
    """Cas9 and its path, as for `simulate`."""
    ends = (book.data("structures/4CMQ.cif.gz"), book.data("structures/4ZT0_chainA_protein.pdb"))
    return (*ends, "--chain", "A", "--domains", *_CAS9)


def cas9(book: Notebook) -> None:
    """Cas9's lobes on their way from the free enzyme to the one with RNA, domain by domain."""
    _travelling(book, "cas9", "", book.sizes)


def faded(book: Notebook) -> None:
    """The same where what cryodrgn finds ends at about the paper's 13 Å by noise and not at Nyquist."""
    s, box = book.sizes, book.sizes.faded_box
    of = {"box": box, "pixel": s.pixel * s.box / box, "band": box // 2 - 1, "b_factor": s.faded_b_factor}
    _travelling(book, "cas9-faded", f", B-factor {s.faded_b_factor:g} Å²", replace(s, **of))


def _travelling(book: Notebook, name: str, words: str, s: Sizes) -> None:
    film = Film(book, name, s).simulate("constant", cas9_path(book))
    what = f"Cas9-like, SNR {s.snr:g}, {s.movies} × {s.frames} frames{words}"
    beta = film.tuned(what)
    runs = compared(book, film, what, {"better": goal(85, 99.8), "mean": goal(5, 13.5)}, s.seeds, beta)
    for name in ("cryodrgn", "tempor as published", "tempor"):
        scores, z = runs[name].scores, runs[name].latent.numpy()
        state = (scores.true * (s.frames - 1)).round().long().numpy()
        index = adjusted_mutual_information(k_means(z.astype(float), s.frames, 0)[1], state)
        clusters = f"adjusted mutual information of {s.frames} clusters of z"
        book.row(f"{what}, {name}, seed 0: {clusters}", index, better="higher")
    book.row("As published, Cas9, tempor: frames better than cryoDRGN", 99.8, "%", better="higher")
    book.row("As published, Cas9, tempor: mean improvement", 13.5, "%", better="higher")
    book.notes.append("REC1, REC2, REC3 and HNH of 4CMQ travel 52, 28, 62 and 3 Å to where 4ZT0 has them.")


def snr(book: Notebook) -> None:
    """Fig. 9a: Cas9 again, as the noise grows; cryodrgn has the β of the table that serves it best at each SNR."""
    book = replace(book, sizes=book.sizes.travelling)
    s, curves = book.sizes, {}
    for value in s.snrs:
        film = Film(book, f"cas9-{value:g}", replace(s, snr=value)).simulate("constant", cas9_path(book))
        what = f"SNR {value:g}"
        beta = film.tuned(what)
        pairs = [film.pair(seed, beta) for seed in range(s.seeds)]
        smoothed = [Pair(pair.baseline, film.score(pair.baseline.run, "smoothed")) for pair in pairs]
        own_rows(book, f"{what}, cryodrgn", [pair.baseline for pair in pairs], {})
        rows_of_pairs(book, f"{what}, tempor", pairs)
        rows_of_pairs(book, f"{what}, cryodrgn smoothed", smoothed)
        curves |= {f"{what}, cryodrgn": pairs[0].baseline.scores.curves, f"{what}, tempor": pairs[0].ours.scores.curves}
    fsc_spread(book.images / "tempor_snr.png", curves, s.pixel)
    book.pictures.append(Picture("tempor_snr.png", "FSC to the truth, mean and spread of frames, by noise (seed 0)."))
    book.notes.append(
        f"Cas9's movies of tempor-fig7, {s.movies} × {s.frames} frames. cryodrgn has at each SNR the β at which its "
        f"seed 0 resolves frames best, tempor its default at all. {seeds_said(s.seeds)}"
    )


def pretraining(book: Notebook) -> None:
    """Fig. 9b: from the baseline's weights, or from nothing for as long; with the paper's N(0, 1) and without."""
    film, seeds = Film(book, "pretraining", book.sizes).simulate("reversing"), range(book.sizes.seeds)
    pairs = [film.pair(seed) for seed in seeds]
    baselines = [pair.baseline for pair in pairs]
    own_rows(book, "cryodrgn", baselines, {})
    runs = {
        "tempor": ([film.begun(seed, "transition").ours for seed in seeds], [pair.ours for pair in pairs]),
        "tempor with N(0, 1)": (
            [film.begun(seed).ours for seed in seeds],
            [film.unlinked(pair, seed).ours for seed, pair in enumerate(pairs)],
        ),
    }
    nothing = "from nothing"
    for what, (begun, fresh) in runs.items():
        for words, found in (("from cryodrgn", begun), (nothing, fresh)):
            rows_of_pairs(book, f"{what}, {words}", list(map(Pair, baselines, found)))
        gain_rows(book, f"{what}, what pretraining gains", list(map(Pair, fresh, begun)), than=nothing)
    book.notes.append(f"As published: with N(0, 1), from cryodrgn. {seeds_said(len(seeds))}")


def width(book: Notebook) -> None:
    """Fig. 9c: the width of the decoder."""
    seeds = book.sizes.seeds
    found: dict[int, list[Pair]] = {}
    for narrower, value in pairwise((0, *book.sizes.widths)):
        film = Film(book, f"width-{value}", replace(book.sizes, width=value)).simulate("reversing")
        pairs = found[value] = [film.pair(seed) for seed in range(seeds)]
        own_rows(book, f"Width {value}, cryodrgn", [pair.baseline for pair in pairs], {})
        rows_of_pairs(book, f"Width {value}, tempor", pairs)
        if narrower:
            wider = [Pair(run.ours, pair.ours) for run, pair in zip(found[narrower], pairs, strict=True)]
            gain_rows(book, f"Width {value}, tempor, for {narrower}", wider, than=f"{narrower}")
    book.notes.append(seeds_said(seeds))


_PAPER = Sizes(**PAPER)
_SHORT: dict[str, Any] = {"movies": 6, "frames": 4, "box": 24, "pixel": 5.0, "width": 16, "blocks": 1, "band": 11}
_SHORT |= {"first": 1, "passes": 1, "every": 6, "betas": (0.3, 1.0), "widths": (16,), "seeds": 2}
_QUICK = Sizes(**_SHORT)
_SCALES = {"mini": Sizes(), "paper": _PAPER, "quick": _QUICK}

FIG4 = Table(
    name="tempor-fig4",
    title="TEMPOR, Fig. 4: a rigid turn, frame by frame",
    about=(
        "Every frame of a movie is one image of another conformation. cryodrgn reads each alone, tempor the whole "
        "movie; the map of each frame is compared with its truth (FSC 0.5)."
    ),
    parts={"constant": constant, "reversing": reversing, "against": against},
    scales=_SCALES,
)

PATH: dict[str, Any] = {"frames": 19, "snr": 0.3, "z_dim": 8, "span": 18.0, "unit": " frames", "every": 5}
_CAS9_SCALES = {
    "mini": Sizes(box=48, pixel=3.6, band=23, b_factor=0, **PATH),
    "paper": replace(_PAPER, pixel=1.35, **PATH),
    "quick": replace(_QUICK, pixel=7.2, span=3.0, unit=" frames", z_dim=2, faded_box=28, seeds=1),
}

FIG7 = Table(
    name="tempor-fig7",
    title="TEMPOR, Fig. 7: domains on their way",
    about="As Fig. 4, of Cas9, whose domains go from where 4CMQ has them to where 4ZT0 has them.",
    parts={"cas9": cas9, "faded": faded},
    scales=_CAS9_SCALES,
)
_SNRS = (10.0, 1.0, 0.1)
_FIG9_SCALES = {
    "mini": ChangingSizes(travelling=replace(_CAS9_SCALES["mini"], snrs=_SNRS)),
    "paper": ChangingSizes(**PAPER, travelling=replace(_CAS9_SCALES["paper"], snrs=_SNRS)),
    "quick": ChangingSizes(**_SHORT, travelling=replace(_CAS9_SCALES["quick"], snrs=(0.1,))),
}

FIG9 = Table(
    name="tempor-fig9",
    title="TEMPOR, Fig. 9: noise, pretraining, width",
    about=(
        "Cas9's movies of tempor-fig7 in more noise and in less; and those of tempor-fig4 that turn round at a random "
        "place, begun from cryodrgn or from nothing, and with networks of several widths."
    ),
    parts={"snr": snr, "pretraining": pretraining, "width": width},
    scales=_FIG9_SCALES,
)
