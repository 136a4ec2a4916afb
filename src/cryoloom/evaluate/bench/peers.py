"""Against cryoDRGN itself: its commands and ours on the same files in the same run."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

import numpy as np
import torch

from cryoloom.data import read_particles
from cryoloom.data.cryodrgn import write_pickles
from cryoloom.evaluate.bench.measure import CommandError
from cryoloom.evaluate.bench.pose_search import problem_of, search_of, seconds_of, whole_search
from cryoloom.evaluate.bench.tables import Notebook, Skip, Table
from cryoloom.model.poses.search import SearchSettings

_EPOCH = re.compile(r"Epoch: (\d+)\b.*?[Ff]inished in (?:(\d+) days?, )?(\d+):(\d+):([\d.]+)")
# cryoDRGN's own defaults for what is searched: both sides get these.
_EXTENT_PX = 10.0
_SEARCH = SearchSettings(angle_step=15, shift_points=7, candidates=8, subdivisions=4, first_band=12, last_band=32)


@dataclass(frozen=True)
class Sizes:
    """How much of it is measured: few images for the peer's search, whose seconds an image are then known."""

    particles: int = 1000
    box: int = 64
    pixel_size: float = 4.0
    searched_old: int = 64
    searched_new: int = 64
    trained: int = 1000
    repeats: int = 3
    cryodrgn: str = "cryodrgn"


def epoch_seconds(log: str) -> dict[int, float]:
    """Seconds of each epoch by number, from what a command of cryoDRGN said."""
    found = {}
    for number, days, hours, minutes, seconds in _EPOCH.findall(log):
        span = timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
        found[int(number)] = span.total_seconds()
    return found


def search_pass(book: Notebook) -> None:
    """One search pass over the same particles: `abinit_homo_old`, `abinit --zdim 0`, and ours."""
    peer, s = Peer(book), book.sizes
    folder = _spike(book)
    problem = problem_of(folder / "particles.star", folder / "truth", torch.device("cpu"))
    search = search_of(problem, _SEARCH, _EXTENT_PX)
    whole_search(problem, search, problem.index[:16])
    ours = median(seconds_of(lambda: whole_search(problem, search), torch.device("cpu"), s.repeats))
    what, of = f"One search pass, {s.particles:,} images, box {s.box}", f"{s.particles:,}"
    book.row(f"{what}: cryoloom", ours, "s")
    same = f"--ctf data/ctf.pkl --t-extent {_EXTENT_PX:g} --t-ngrid 7 --seed 0"
    _write_first(folder.parent / "old.pkl", s.searched_old)
    _write_first(folder.parent / "new.pkl", s.searched_new)
    # Epoch 2 trains at the poses of epoch 1: what epoch 1 takes longer is the search.
    once = "--ind old.pkl --pretrain 1 -n 2 --ps-freq 5 --l-ramp-epochs 0"
    epochs = peer.epochs("abinit_homo_old", "data/particles.mrcs", *same.split(), *once.split())
    old = (epochs[1] - epochs[2]) / s.searched_old * s.particles
    book.row(f"{what}: {peer.name} abinit_homo_old, from {s.searched_old}", old, "s")
    book.row(f"{what}: abinit_homo_old / cryoloom", old / ours, "×", must=50, aim=200, better="higher")
    once = "--zdim 0 --ind new.pkl --n-imgs-pretrain 0 --epochs-pose-search 1 --epochs-sgd 0 --no-analysis"
    epochs = peer.epochs("abinit", "data/particles.mrcs", *same.split(), *once.split())
    new = epochs[1] / s.searched_new * s.particles
    book.row(f"{what}: {peer.name} abinit --zdim 0, from {s.searched_new}", new, "s")
    book.row(f"{what}: abinit --zdim 0 / cryoloom", new / ours, "×", better="higher")
    book.notes.append(
        f"{of} images of the spike 6VYB, {s.pixel_size:g} Å a pixel, SNR 0.1, CTF, shifts within ±3 px. Both sides: "
        f"15° grid, 7 × 7 shifts within ±{_EXTENT_PX:g} px, bands 12 to 32, 4 subdivisions, 8 rotations kept. The "
        "peer's time is that of a few images, as the row says, times the rest: it is the same for every image. For "
        "`abinit_homo_old` it is the first epoch less the second, which trains at the same poses; the epoch of "
        "`abinit` has its training steps in it. Ours has reading the images and rendering the templates in it, "
        f"against the true map: no search looks at what the map shows. {torch.get_num_threads()} threads each."
    )


def field_training(book: Notebook) -> None:
    """Images a second of training a positional MLP of 3 × 256 at known poses: `train_nn`, and ours."""
    peer, s = Peer(book), book.sizes
    _spike(book)
    _write_first(book.bench.folder / "trained.pkl", s.trained)
    model = "--layers 3 --dim 256"
    options = f"--poses data/pose.pkl --ctf data/ctf.pkl --ind trained.pkl -n 2 {model} --seed 0"
    # The first epoch has everything in it that happens only once.
    theirs = s.trained / peer.epochs("train_nn", "data/particles.mrcs", *options.split())[2]
    what = f"Field training, 3 × 256, box {s.box}"
    book.row(f"{what}: {peer.name} train_nn", theirs, "images/s", better="higher")
    ours = _our_speed(book)
    book.row(f"{what}: cryoloom", ours, "images/s", better="higher")
    book.row(f"{what}: cryoloom / train_nn", ours / theirs, "×", must=2, aim=4, better="higher")
    book.notes.append(
        "Known poses, full band, batches of 16 and Gaussian features on both sides, each program's own defaults for "
        "the rest. The peer's `--domain hartley`, of which ours is an equivalent, is far slower than its default."
    )


def _our_speed(book: Notebook) -> float:
    run, options = "field", "--system cryodrgn2 --poses known --device cpu --seed 0"
    try:
        book.bench.cryoloom(run, "reconstruct", "data/truth/particles.star", "-o", run, *options.split())
    except CommandError as error:
        raise Skip(f"cryoloom cannot train a field at known poses here: {error}") from error
    lines = [json.loads(line) for line in (book.bench.folder / run / "metrics.jsonl").read_text().splitlines()]
    speeds = [float(line["images_per_s"]) for line in lines if line.get("images_per_s")]
    if not speeds:
        raise Skip("the run's metrics.jsonl tells no images a second")
    return median(speeds)


def _write_first(path: Path, n: int) -> None:
    """cryoDRGN's list of the first `n` particles."""
    path.write_bytes(pickle.dumps(np.arange(n)))


class Peer:
    """cryoDRGN's command: where it is, its name with its version, and what its commands take."""

    def __init__(self, book: Notebook):
        self.book, self.command = book, _find(book.sizes.cryodrgn)
        said = subprocess.run([self.command, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"\d+\.\d+\.\d+\S*", said.stdout + said.stderr)
        if version is None:
            raise Skip("cryodrgn --version tells no version")
        self.name = f"cryodrgn {version[0]}"

    def run(self, out: str, *options: object) -> None:
        """`cryodrgn OPTIONS`, which makes `out`. Raises CommandError."""
        self.book.bench.program(out, [self.command], "cryodrgn", *options)

    def epochs(self, what: str, particles: str, *options: object, out: str = "") -> dict[int, float]:
        """Seconds of each epoch of `cryodrgn WHAT PARTICLES -o OUT OPTIONS`, OUT called as the command else."""
        out = out or what
        self.run(out, what, particles, "-o", out, *options)
        found = epoch_seconds(self.book.bench.log(out).read_text(errors="replace"))
        if not found:
            raise CommandError(f"cryodrgn {what} tells no time of an epoch")
        return found


def _find(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise Skip(
            "cryodrgn is not installed here: `pip install cryodrgn==4.3.1` in an environment of its own, and name its "
            "command with `benchmarks/vs_cryodrgn.py --cryodrgn`"
        )
    return found


def _spike(book: Notebook) -> Path:
    """Particles of the spike for both sides: the folder with particles.star, truth/, pose.pkl and ctf.pkl."""
    s, out = book.sizes, "data"
    molecule = book.data("structures/6vyb.pdb")
    options = f"--box {s.box} --pixel-size {s.pixel_size:g} --particles {s.particles} --snr 0.1 --shift 3 --seed 0"
    book.bench.cryoloom(out, "simulate", molecule, *options.split(), "-o", out)
    folder = book.bench.folder / out
    write_pickles(folder, read_particles(folder / "truth/particles.star"))
    return folder


VS_CRYODRGN = Table(
    name="vs-cryodrgn",
    title="Against cryoDRGN on the same files",
    about=(
        "cryoDRGN's own commands and ours on the same particles, one after the other on the same machine and with "
        "the same threads: one pass of pose search, and the training of a field at known poses."
    ),
    parts={"search": search_pass, "field": field_training},
    scales={"mini": Sizes(), "quick": Sizes(32, searched_old=4, searched_new=4, trained=32, repeats=1)},
)
