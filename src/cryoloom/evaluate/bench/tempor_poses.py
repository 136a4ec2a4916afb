"""Fig. 8 of TEMPOR: movies whose poses nobody knows, read by a network or found by loom."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import cat

from cryoloom.data import read_particles
from cryoloom.evaluate.align import align_poses
from cryoloom.evaluate.bench.runs import reconstructed
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.bench.tempor import PATH, cas9_path
from cryoloom.evaluate.bench.tempor_films import HIGHER, Film, Pair, Scored, Sizes
from cryoloom.evaluate.latents import neighbour_accuracy
from cryoloom.evaluate.truth import match_particles

# Poses that are learnt settle when the rates fall.
_SLOWING = ("--train.last-rate", 0.1)


@dataclass(frozen=True)
class FoundSizes(Sizes):
    """As `Sizes`; tumbling: degrees from frame to frame; search_box, read_box: pixels that images are cropped to.

    hypotheses: poses that a network says for each frame. pose_passes: of hetem, for one volume. read_passes: of hetem
    in all before tempor takes over. more_passes: of either from there. read_batch: of tempor, some movies.
    """

    tumbling: float = 15.0
    search_box: int = 36
    read_box: int = 32
    hypotheses: int = 4
    pose_passes: int = 30
    read_passes: int = 45
    more_passes: int = 20
    read_batch: int = 57


@dataclass(frozen=True)
class Found:
    """The runs on one film whose poses are found."""

    book: Notebook
    film: Film
    box: int

    def run(self, name: str, system: str, *options: object) -> str:
        """Reconstruct the film with a system in the box that images are cropped to; the run."""
        run = f"{self.film.name}/{name}"
        given = ("--box", self.box, "--seed", 0, *options)
        reconstructed(self.book, f"{self.film.name}/data/particles.star", run, system, *given)
        return run

    def conformed(self, system: str, passes: int, init: str, *options: object, batch: int = 0) -> str:
        """A system with z, trained from another run; batch: the table's by default."""
        s = self.book.sizes
        size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --train.passes {passes}"
        name = f"{system}-after-{init.rpartition('/')[2]}"
        return self.run(name, system, "--init", init, *size.split(), "--train.batch-size", batch or s.batch, *options)

    def score(self, run: str, what: str) -> Scored:
        """Rows of the maps of a run with a volume for every frame."""
        found = self.film.score(run, found=True)
        scores, row = found.scores, self.book.row
        row(f"{what}: resolution, FSC 0.5, mean of frames", float(scores.resolution.mean()), "Å")
        row(f"{what}: area under the FSC, mean of frames", float(scores.curves.mean()), **HIGHER)
        row(f"{what}: PSNR after low-pass, mean", float(scores.psnr.mean()), "dB", **HIGHER)
        same = 100 * neighbour_accuracy(found.latent.numpy(), scores.true.numpy())
        row(f"{what}: nearest neighbours in z of the same conformation", same, "%", **HIGHER)
        return found

    def pose_rows(self, run: str, what: str) -> None:
        """The rows of a run's rotation errors."""
        folder = self.book.bench.folder
        particles = read_particles(folder / run / "particles.star")
        truth = read_particles(folder / self.film.name / "data/truth/particles.star")
        rows = match_particles(particles, truth)
        found, true = particles.poses().best_rotation, truth.poses(rows).best_rotation
        kind = truth.column("conformation")[rows]
        own = [align_poses(found[kind == k], true[kind == k]).angle_deg for k in np.unique(kind)]
        self.book.row(f"{what}: rotation error, median", float(align_poses(found, true).angle_deg.median()), "°")
        self.book.row(f"{what}: rotation error among frames of one conformation, median", float(cat(own).median()), "°")


def _simulated(book: Notebook, box: int) -> Found:
    moved = ("--shift", 2, "--tumbling", book.sizes.tumbling)
    found = Found(book, Film(book, "found", book.sizes).simulate("constant", cas9_path(book), moved), box)
    s = book.sizes
    book.notes.append(
        f"Cas9-like, SNR {s.snr:g}, {s.movies} × {s.frames} frames of {s.box} pixels of {s.pixel:g} Å, cropped to "
        f"{box}; shifts within ±2 px; molecules turn by {s.tumbling:g}° from frame to frame. Maps of frames "
        "are scored after the run's map of each conformation was laid on the true one: nothing tells which part of a "
        "molecule stays while domains travel. Rotation errors are told after one rotation of all frames and after one "
        "for each conformation."
    )
    return found


def read(book: Notebook) -> None:
    """Poses read off each frame: hetem, and tempor which takes it over and reads them, too."""
    found, s = _simulated(book, book.sizes.read_box), book.sizes
    size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --hypotheses {s.hypotheses}"

    def hetem(passes: int, *options: object) -> str:
        given = f"--pose-passes {s.pose_passes} --train.passes {passes} --beta {s.beta:g}"
        return found.run(f"hetem-{passes}", "hetem", *size.split(), *given.split(), *options)

    more = ("--read-poses", "--hypotheses", s.hypotheses, *_SLOWING)
    first = hetem(s.read_passes)
    ours = found.conformed("tempor", s.more_passes, first, *more, batch=s.read_batch)
    longer = hetem(s.read_passes + s.more_passes, *_SLOWING)
    runs = {f"hetem, {s.read_passes} passes": first, "hetem": longer, "tempor --read-poses": ours}
    for what, run in runs.items():
        found.pose_rows(run, what)
    begun, baseline, together = (found.score(run, what) for what, run in runs.items())
    pair = Pair(baseline, together)
    book.row("tempor --read-poses: mean improvement on hetem", pair.mean, "%", **{"must": 3, **HIGHER})
    book.row("tempor --read-poses: frames better than hetem by the area under the FSC", pair.area_better, "%", **HIGHER)
    book.row("tempor --read-poses: frames better than hetem by PSNR", pair.psnr_better, "%", **HIGHER)
    book.row("tempor --read-poses: mean improvement on what it began from", Pair(begun, together).mean, "%", **HIGHER)
    book.row("As published, Cas9, 500 movies: tempor better than HetEM by", 0.8, "Å", **HIGHER)
    book.notes.append(
        f"hetem: {s.hypotheses} poses said for each frame, {s.pose_passes} passes for one volume and then with z, β "
        f"{s.beta:g}, {s.read_passes + s.more_passes} passes in all. tempor begins from {s.read_passes} of hetem and "
        f"has {s.more_passes} more, {s.read_batch} frames a batch. The rates of tempor and of "
        f"hetem's {s.read_passes + s.more_passes} passes fall to a tenth, those of its {s.read_passes} do not."
    )


def searched(book: Notebook) -> None:
    """Poses found by loom, frame by frame and along movies, and tempor from there."""
    found, s = _simulated(book, book.sizes.search_box), book.sizes
    first = found.run("loom", "loom")
    start = ("--poses", f"{first}/particles.star", "--refine", "--temporal-prior")
    runs = {"loom": first, "loom --temporal-prior": found.run("loom-in-time", "loom", *start)}
    for what, run in runs.items():
        found.pose_rows(run, what)
        begun = found.conformed("cryodrgn", s.first, run, "--z-start", "none", "--settle-rounds", 0)
        found.score(found.conformed("tempor", s.passes, begun), f"tempor at the poses of {what}")


_MINI = FoundSizes(movies=300, box=48, pixel=3.6, b_factor=0, first=10, passes=15, **{**PATH, "snr": 1.0, "every": 16})
_PAPER = replace(
    _MINI, movies=500, box=128, search_box=128, read_box=128, pixel=1.35, width=1024, blocks=3, device="cuda"
)
_SMALL: dict[str, Any] = {**PATH, "snr": 1.0, "every": 6, "frames": 4, "z_dim": 2, "width": 16, "blocks": 1}
_SHORT: dict[str, Any] = {"first": 1, "passes": 1, "pose_passes": 1, "read_passes": 2, "more_passes": 1}
_BOXES: dict[str, Any] = {"box": 24, "search_box": 24, "read_box": 24, "pixel": 7.2}
_QUICK = FoundSizes(movies=8, hypotheses=2, read_batch=8, **_BOXES, **_SMALL, **_SHORT)

FIG8 = Table(
    name="tempor-fig8",
    title="TEMPOR, Fig. 8: poses unknown",
    about="A volume for every frame of movies whose poses a network reads off each frame, or loom finds.",
    parts={"read": read, "searched": searched},
    scales={"mini": _MINI, "paper": _PAPER, "quick": _QUICK},
)
