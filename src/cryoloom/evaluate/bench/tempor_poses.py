"""Fig. 8 of TEMPOR: movies whose poses nobody knows, read by a network or found by loom."""

from dataclasses import dataclass, replace
from typing import Any

from cryoloom.data import read_particles
from cryoloom.evaluate.bench.runs import reconstructed
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.bench.tempor import PATH, cas9_path
from cryoloom.evaluate.bench.tempor_films import HIGHER, Film, Pair, Scored, Sizes
from cryoloom.evaluate.pose_error import pose_errors
from cryoloom.evaluate.truth import match_particles


@dataclass(frozen=True)
class FoundSizes(Sizes):
    """As `Sizes`; tumbling: degrees from frame to frame; working_box: pixels that images are cropped to.

    hypotheses: poses that a network says for each frame. pose_passes: of hetem, for one volume. read_passes: of hetem
    in all before tempor takes over. more_passes: of either from there.
    """

    tumbling: float = 15.0
    working_box: int = 32
    hypotheses: int = 4
    pose_passes: int = 30
    read_passes: int = 45
    more_passes: int = 20


@dataclass(frozen=True)
class Found:
    """The runs on one film whose poses are found."""

    book: Notebook
    film: Film

    def run(self, name: str, system: str, *options: object) -> str:
        """Reconstruct the film with a system in the working box; the run."""
        run = f"{self.film.name}/{name}"
        given = ("--box", self.book.sizes.working_box, "--seed", 0, *options)
        reconstructed(self.book, f"{self.film.name}/data/particles.star", run, system, *given)
        return run

    def conformed(self, system: str, passes: int, init: str, *options: object) -> str:
        """A system with z, trained from another run."""
        s = self.book.sizes
        size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --train.passes {passes}"
        name = f"{system}-after-{init.rpartition('/')[2]}"
        return self.run(name, system, "--init", init, *size.split(), "--train.batch-size", s.batch, *options)

    def score(self, run: str, what: str, **goals: Any) -> Scored:
        """Rows of a run with a volume for every frame."""
        found = self.film.score(run, found=True)
        self.pose_row(run, what)
        resolution = float(found.scores.resolution.mean())
        self.book.row(f"{what}: resolution, FSC 0.5, mean of frames", resolution, "Å", **goals)
        self.book.row(f"{what}: |Spearman| of latent and place on the path", found.rank, **HIGHER)
        return found

    def pose_row(self, run: str, what: str) -> None:
        """The row of a run's pose error."""
        folder = self.book.bench.folder
        particles = read_particles(folder / run / "particles.star")
        true = read_particles(folder / self.film.name / "data/truth/particles.star")
        given = true.poses(match_particles(particles, true))
        error = pose_errors(particles.poses(), given, true.source_pixel_size).rotation_error_deg_median
        self.book.row(f"{what}: rotation error, median", error, "°")


def _simulated(book: Notebook) -> Found:
    moved = ("--shift", 2, "--tumbling", book.sizes.tumbling)
    found = Found(book, Film(book, "found", book.sizes).simulate("constant", cas9_path(book), moved))
    s = book.sizes
    book.notes.append(
        f"Cas9-like, SNR {s.snr:g}, {s.movies} × {s.frames} frames of {s.box} pixels of {s.pixel:g} Å, cropped to "
        f"{s.working_box}; shifts within ±2 px; molecules turn by {s.tumbling:g}° from frame to frame. Maps of all "
        "frames are scored after the run's mean map was laid on the mean of the true ones."
    )
    return found


def read(book: Notebook) -> None:
    """Poses read off each frame: hetem, and tempor which takes it over and reads them, too."""
    found, s = _simulated(book), book.sizes
    size = f"--z-dim {s.z_dim} --network.width {s.width} --network.blocks {s.blocks} --hypotheses {s.hypotheses}"

    def hetem(passes: int) -> str:
        given = f"--pose-passes {s.pose_passes} --train.passes {passes} --beta {s.beta:g}"
        return found.run(f"hetem-{passes}", "hetem", *size.split(), *given.split())

    first, longer = hetem(s.read_passes), hetem(s.read_passes + s.more_passes)
    ours = found.conformed("tempor", s.more_passes, first, "--read-poses", "--hypotheses", s.hypotheses)
    begun, baseline = found.score(first, f"hetem, {s.read_passes} passes"), found.score(longer, "hetem")
    together = found.score(ours, "tempor --read-poses")
    pair = Pair(baseline, together)
    book.row("tempor --read-poses: mean improvement on hetem", pair.mean, "%", **{"must": 3, **HIGHER})
    book.row("tempor --read-poses: frames better than hetem by the area under the FSC", pair.area_better, "%", **HIGHER)
    book.row("tempor --read-poses: frames better than hetem by PSNR", pair.psnr_better, "%", **HIGHER)
    book.row("tempor --read-poses: mean improvement on what it began from", Pair(begun, together).mean, "%", **HIGHER)
    book.row("As published, Cas9, 500 movies: tempor better than HetEM by", 0.8, "Å", **HIGHER)
    book.notes.append(
        f"hetem: {s.hypotheses} poses said for each frame, {s.pose_passes} passes for one volume and then with z, β "
        f"{s.beta:g}, {s.read_passes + s.more_passes} passes in all. tempor begins from {s.read_passes} of these and "
        f"has the other {s.more_passes}."
    )


def searched(book: Notebook) -> None:
    """Poses found by loom, frame by frame and along movies, and tempor from there."""
    found, s = _simulated(book), book.sizes
    first = found.run("loom", "loom")
    start = ("--poses", f"{first}/particles.star", "--refine", "--temporal-prior")
    runs = {"loom": first, "loom --temporal-prior": found.run("loom-in-time", "loom", *start)}
    for what, run in runs.items():
        found.pose_row(run, what)
        begun = found.conformed("cryodrgn", s.first, run, "--z-start", "none", "--settle-rounds", 0)
        found.score(found.conformed("tempor", s.passes, begun), f"tempor at the poses of {what}")


_MINI = FoundSizes(movies=300, box=48, pixel=3.6, b_factor=0, first=10, passes=15, **{**PATH, "snr": 1.0, "every": 16})
_PAPER = replace(_MINI, movies=500, box=128, working_box=128, pixel=1.35, width=1024, blocks=3, device="cuda")
_SMALL: dict[str, Any] = {**PATH, "snr": 1.0, "every": 6, "frames": 4, "z_dim": 2, "width": 16, "blocks": 1}
_SHORT: dict[str, Any] = {"first": 1, "passes": 1, "pose_passes": 1, "read_passes": 2, "more_passes": 1}
_QUICK = FoundSizes(movies=8, box=24, working_box=24, pixel=7.2, hypotheses=2, **_SMALL, **_SHORT)

FIG8 = Table(
    name="tempor-fig8",
    title="TEMPOR, Fig. 8: poses unknown",
    about="A volume for every frame of movies whose poses a network reads off each frame, or loom finds.",
    parts={"read": read, "searched": searched},
    scales={"mini": _MINI, "paper": _PAPER, "quick": _QUICK},
)
