"""CryoPoseNet, Figs. 2 and 3: poses that a network reads off images, by their parameters and by noise."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from cryoloom.evaluate.bench.curves import training_curves
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.runs import Evaluated, evaluated_run
from cryoloom.evaluate.bench.tables import Notebook, Table

_ERROR = "‖R−R̂‖²_F"
# A turn of 90°: a system whose median is further off has found nothing.
_LOST = 4.0
_AS_PUBLISHED = ("--box", "128", "--pixel-size", "0.8")
_FIELD = 128 * 0.8
_HEADS = {"s2s2": "S2S2", "quaternion": "quaternion", "euler": "Euler"}


@dataclass(frozen=True)
class Sizes:
    """Particles of a set, passes over them, box and pixel size in Å; seeds of fig. 2's runs.

    Images of fig. 3 are simulated as the paper's are, 128 pixels of 0.8 Å, and cropped in Fourier space to the box.
    """

    particles: int = 5000
    passes: int = 30
    box: int = 24
    pixel_size: float = 3.6
    seeds: int = 1
    width: int = 16
    snr_db: tuple[int, ...] = (10, 5, 0, -5, -10)
    device: str = "cpu"


def fig2(book: Notebook) -> None:
    """Loss and pose error by the parameters of a rotation; known poses bound them, gradient on poses fails."""
    s = book.sizes
    small = ("--box", str(s.box), "--pixel-size", f"{s.pixel_size:g}")
    data = _simulate(book, "ideal", *small, "--snr", "inf", "--no-ctf")
    what, curves = f"4AKE, {s.particles:,} images without noise", {}
    found = {
        head: [_run(book, data, f"{head}-{seed}", seed, "--pose-head", head) for seed in range(s.seeds)]
        for head in _HEADS
    }
    for head, runs in found.items():
        goals: dict[str, Any] = {"must": 0.01, "aim": 0.003} if head == "s2s2" else {}
        book.row(
            f"{what}, {_HEADS[head]}: median {_ERROR}", median(r.number("rotation_error_median") for r in runs), **goals
        )
        curves[_HEADS[head]] = runs[0].column("unexplained")
    best = found["s2s2"]
    nyquist = median(_of_nyquist(r, s.box, s.box * s.pixel_size) for r in best)
    book.row(f"{what}, S2S2: resolution, FSC 0.143, over that of the last shell", nyquist, "×", must=1.05, aim=1.0)
    book.row(f"{what}, S2S2: whole run, wall", median(r.measured.seconds for r in best), "s")
    areas = {head: median(sum(r.column("unexplained")) for r in runs) for head, runs in found.items()}
    in_order = areas["s2s2"] <= areas["quaternion"] <= areas["euler"]
    book.row(f"{what}: S2S2 converges before quaternion before Euler", float(in_order), must=1, better="higher")
    for head, area in areas.items():
        book.row(f"{what}, {_HEADS[head]}: unexplained share, mean over the passes", area / s.passes)
    plain = _run(book, data, "as-published", 0, "--no-symmetric-loss", "--spread", "0", "--rehearsal", "0")
    curves["S2S2, as published"] = plain.column("unexplained")
    book.row(f"{what}, S2S2 without our cures: median {_ERROR}", plain.number("rotation_error_median"))
    known = _run(book, data, "known", 0, "--poses", "known", truth=True)
    curves["known poses"] = known.column("unexplained")
    book.row(f"{what}, known poses: unexplained share at the end", curves["known poses"][-1])
    book.row(f"{what}, S2S2: unexplained share at the end", curves["S2S2"][-1])
    gradient = _gradient(book, data)
    curves["gradient on poses"] = gradient.column("unexplained")[-s.passes :]
    lost = gradient.number("rotation_error_median")
    book.row(f"{what}, gradient descent on poses: median {_ERROR}", lost)
    book.row(f"{what}: gradient descent on poses fails", float(lost > _LOST), must=1, better="higher")
    training_curves(book.images / "cryoposenet_fig2.png", curves, "share of the images' power unexplained")
    caption = "What is left unexplained, pass by pass: three ways to say a rotation, known poses, a gradient on poses."
    book.pictures.append(Picture("cryoposenet_fig2.png", caption))
    book.notes.append(
        f"Adenylate kinase 4AKE, chain A, box {s.box} at {s.pixel_size:g} Å, centred, no CTF; voxels and a "
        f"convolutional encoder of {s.width} channels, symmetric loss, spread views, rehearsal, {s.passes} passes in "
        f"batches of 32, {s.seeds} seed(s). The paper: box 128, 10,000 steps, about 5 h on a V100. "
        "Convergence is compared by the mean over all passes."
    )


def fig3(book: Notebook) -> None:
    """Resolution by the noise of the images, and with a CTF."""
    s, curves = book.sizes, {}
    noises = [(f"{db} dB", db, ("--snr", f"{10 ** (db / 10):g}", "--no-ctf")) for db in s.snr_db]
    for label, db, options in [*noises, ("0 dB with CTF", 0, ("--snr", "1", "--defocus", "0.4", "1.2"))]:
        name = "at-" + label.replace(" ", "-")
        data = _simulate(book, name, *_AS_PUBLISHED, *options)
        runs = [_run(book, data, f"{name}-run-{seed}", seed, "--box", str(s.box)) for seed in range(s.seeds)]
        must: dict[str, Any] = {"must": 1.05 if db >= 0 else 1.6} if db >= 0 or db == -10 else {}
        over = median(_of_nyquist(found, s.box, _FIELD) for found in runs)
        book.row(f"4AKE at {label}: resolution, FSC 0.143, over that of the last shell", over, "×", **must)
        error = median(found.number("rotation_error_median") for found in runs)
        book.row(f"4AKE at {label}: median {_ERROR}", error)
        curves[label] = runs[0].column("unexplained")
    training_curves(book.images / "cryoposenet_fig3.png", curves, "share of the images' power unexplained")
    book.pictures.append(Picture("cryoposenet_fig3.png", "What is left unexplained, pass by pass, by the noise."))
    book.notes.append(
        f"{s.particles:,} images simulated as the paper's, 128 pixels of 0.8 Å, and cropped in Fourier space to "
        f"{s.box}; otherwise as Fig. 2, {s.passes} passes, {s.seeds} seed(s)."
    )


def _simulate(book: Notebook, name: str, *options: str) -> str:
    out = f"data/{name}"
    more = f"--chain A --particles {book.sizes.particles} --shift 0 --seed 0"
    book.bench.cryoloom(out, "simulate", book.data("structures/4ake.pdb"), *more.split(), *options, "-o", out)
    return out


def _run(book: Notebook, data: str, run: str, seed: int, *options: str, truth: bool = False) -> Evaluated:
    reader = ("--encoder.width", book.sizes.width, "--encoder.box", min(32, book.sizes.box))
    more = (*reader, "--train.passes", book.sizes.passes, "--max-shift-angst", 1, "--seed", seed, *options)
    return evaluated_run(book, data, run, "cryoposenet", *more, truth=truth)


def _gradient(book: Notebook, data: str) -> Evaluated:
    train = f"--train.noise white --train.last-band 64 --train.learning-rate 0.02 --train.passes {book.sizes.passes}"
    more = f"--field voxels {train}"
    return evaluated_run(book, data, "gradient", "pose-gd", *more.split())


def _of_nyquist(run: Evaluated, box: int, field_angst: float) -> float:
    # The last shell of a box lies one below Nyquist.
    return run.number("resolution_fsc143_angst") * (box / 2 - 1) / field_angst


_SCALES: dict[str, Any] = {
    "mini": Sizes(particles=9000, passes=12, box=32, pixel_size=2.7, seeds=3),
    "paper": Sizes(10_000, 36, 128, 0.8, seeds=3, width=32, device="cuda"),
    "quick": Sizes(200, 1, 24, 3.6, width=4, snr_db=(0,)),
}
FIG2 = Table(
    name="cryoposenet-fig2",
    title="CryoPoseNet, Fig. 2: how a rotation is said",
    about="A network reads rotations off noise-free images, as Euler angles, a quaternion or two vectors.",
    parts={"heads": fig2},
    scales=_SCALES,
)
FIG3 = Table(
    name="cryoposenet-fig3",
    title="CryoPoseNet, Fig. 3: noise and CTF",
    about="The same network on images with more and more noise, and with a CTF.",
    parts={"noise": fig3},
    scales=_SCALES,
)
