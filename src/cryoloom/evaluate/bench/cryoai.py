"""CryoAI, Table 1: resolution, rotations and shifts of two molecules, and other ways to a pose."""

import re
from dataclasses import replace
from functools import partial
from statistics import median

from cryoloom.data.mrc import read_volume, write_volume
from cryoloom.evaluate.bench.cryoai_runs import (
    ADK,
    ERROR,
    RIBOSOME,
    SCALES,
    SHIFT,
    Molecule,
    Sizes,
    cryoai_run,
    data_of,
    has_mirror_plane,
    limits_of,
    loom_run,
    network_and_polished,
    resolution_px,
    rotation_error,
    shift_error_px2,
    simulated,
    wall_seconds,
)
from cryoloom.evaluate.bench.curves import training_curves
from cryoloom.evaluate.bench.pictures import map_rows
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.runs import Evaluated, evaluated_run
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.truth import true_map

_KINDS = {"ideal": "ideal", "noisy": "−10 dB"}


def ideal(book: Notebook, molecule: Molecule) -> None:
    """Images without noise: resolution, rotations and shifts, medians of seeds."""
    seeds = range(book.sizes.seeds)
    both = [network_and_polished(book, molecule, "ideal", seed) for seed in seeds]
    found, polished = ([pair[i] for pair in both] for i in range(2))
    what = f"{molecule.name}, ideal"
    book.row(f"{what}: resolution to the truth, FSC 0.5", median(map(resolution_px, found)), "px", must=2.3, aim=2.13)
    book.row(f"{what}: median {ERROR}", median(map(rotation_error, found)), must=0.002, aim=0.0004)
    shift = median(shift_error_px2(book, molecule, run) for run in found)
    book.row(f"{what}: shift error, mean square", shift, "px²", must=0.01, aim=0.001)
    book.row(f"{what}: whole run, wall", median(map(wall_seconds, found)), "s")
    _spread_row(book, what, found)
    if molecule.begun:
        book.row(f"{what}, --polish: resolution to the truth, FSC 0.5", median(map(resolution_px, polished)), "px")
        book.row(f"{what}, --polish: median {ERROR}", median(map(rotation_error, polished)))
        _from_nothing(book, molecule, found[0])
    book.notes.append(_about(book))


def _from_nothing(book: Notebook, molecule: Molecule, found: Evaluated) -> None:
    """The same without the searches at the beginning."""
    data, run, passes = data_of(book, molecule, "ideal"), f"{molecule.name}-nothing", book.sizes.nothing_passes
    alone = cryoai_run(book, replace(molecule, begun=False), data, run, train_passes=passes)
    what = f"{molecule.name}, ideal, from nothing"
    book.row(f"{what}: resolution to the truth, FSC 0.5", resolution_px(alone), "px")
    book.row(f"{what}: median {ERROR}", rotation_error(alone))
    book.row(f"{what}: false mirror plane", has_mirror_plane(book, run))
    curves = {"begun by searches": found, "from nothing": alone}
    left = {name: [m["unexplained"] for m in of.metrics if m["stage"] == "train"] for name, of in curves.items()}
    picture = f"cryoai_{molecule.name.lower()}_begun.png"
    training_curves(book.images / picture, left, "share of the images' power unexplained")
    book.pictures.append(Picture(picture, f"{molecule.name} without noise: what is left unexplained, pass by pass."))


def noisy(book: Notebook, molecule: Molecule) -> None:
    """Images at −10 dB: the network alone, polished, and loom, medians of seeds."""
    data, seeds = data_of(book, molecule, "noisy"), range(book.sizes.seeds)
    both = [network_and_polished(book, molecule, "noisy", seed) for seed in seeds]
    network, polished = ([pair[i] for pair in both] for i in range(2))
    loom = [loom_run(book, molecule, "noisy", seed) for seed in seeds]
    for system, runs in {"loom": loom, "cryoai": network, "cryoai --polish": polished}.items():
        what = f"{molecule.name}, −10 dB, {system}"
        book.row(f"{what}: resolution to the truth, FSC 0.5", median(map(resolution_px, runs)), "px")
        book.row(f"{what}: median {ERROR}", median(map(rotation_error, runs)))
        shift = median(shift_error_px2(book, molecule, run) for run in runs)
        book.row(f"{what}: shift error, mean square", shift, "px²")
        book.row(f"{what}: whole run, wall", median(map(wall_seconds, runs)), "s")
    what = f"{molecule.name}, −10 dB, cryoai"
    _spread_row(book, what, network)
    ours, refined, theirs = (median(map(resolution_px, runs)) for runs in (network, polished, loom))
    book.row(f"{what}: resolution over loom's", ours / theirs, "×", must=1.25, aim=1.1)
    book.row(f"{what} --polish: resolution over loom's", refined / theirs, "×", must=1.05, aim=1.0)
    error = median(map(rotation_error, polished)) / median(map(rotation_error, loom))
    book.row(f"{what} --polish: median error over loom's", error, "×", must=1.05, aim=1.0)
    _beside_truth(book, molecule, data)
    book.notes.append(_about(book))


def _beside_truth(book: Notebook, molecule: Molecule, data: str) -> None:
    folder, name = book.bench.folder, f"{molecule.name}-noisy"
    runs = {"loom": f"{name}-loom", "cryoai": f"{name}-cryoai/network", "cryoai --polish": f"{name}-cryoai"}
    maps = {system: folder / run / "volumes/aligned_to_truth.mrc" for system, run in runs.items()}
    maps["truth"] = folder / f"{name}-truth.mrc"
    found, pixel_size = read_volume(maps["loom"])
    write_volume(maps["truth"], true_map(folder / data / "truth", found.shape[-1], pixel_size), pixel_size)
    picture = f"cryoai_{molecule.name.lower()}_noisy.png"
    map_rows(book.images / picture, maps)
    book.pictures.append(Picture(picture, f"{molecule.name} at −10 dB as each system finds it; below, the truth."))


def inference(book: Notebook) -> None:
    """The ways to a pose side by side: known, regressed, searched by a network's volume, EM, and hybrid."""
    for molecule, kind in ((ADK, "ideal"), (ADK, "noisy"), (RIBOSOME, "noisy")):
        data, name, limits = data_of(book, molecule, kind), f"{molecule.name}-{kind}", limits_of(book, molecule)
        known = evaluated_run(book, data, f"{name}-known", "loom", *limits, "--poses", "known", truth=True)
        network, polished = network_and_polished(book, molecule, kind)
        runs = {
            "known (loom --poses known)": known,
            "regressed (cryoai)": network,
            "searched (cryodrgn2)": evaluated_run(book, data, f"{name}-cryodrgn2", "cryodrgn2", *limits),
            "EM (loom)": loom_run(book, molecule, kind),
            "hybrid (cryoai --polish)": polished,
        }
        for way, run in runs.items():
            what = f"{molecule.name}, {_KINDS[kind]}, {way}"
            book.row(f"{what}: resolution to the truth, FSC 0.5", resolution_px(run), "px")
            book.row(f"{what}: median {ERROR}", rotation_error(run))
            book.row(f"{what}: whole run, wall", wall_seconds(run), "s")
            book.row(f"{what}: most memory", run.measured.memory_gb, "GB")
    book.notes.append(_about(replace(book, sizes=replace(book.sizes, seeds=1))))


def reading(book: Notebook) -> None:
    """Images a second that trained encoders read, of particles that they never saw."""
    s, bench = book.sizes, book.bench
    seen, new = (simulated(book, ADK, name, "0.1", n, s.read_box) for name, n in (("seen", 200), ("new", s.read)))
    for system, network in (("cryoai", "mlp"), ("cryoposenet", "cnn")):
        short = f"--system {system} --field voxels --train.learning-rate 0.02 --train.passes 1 --device {s.device}"
        bench.cryoloom(
            f"{system}-short", "reconstruct", f"{seen}/particles.star", *short.split(), "-o", f"{system}-short"
        )
        out = f"{system}-posed.star"
        bench.cryoloom(out, "predict", f"{system}-short", f"{new}/particles.star", "--device", s.device, "-o", out)
        said = re.search(r"([\d,]+) a second", bench.log(out).read_text())
        assert said, f"predict prints its rate into {bench.log(out)}"
        rate = float(said[1].replace(",", ""))
        what = f"{system} ({network}), box {s.read_box}: images read a second"
        book.row(what, rate, "1/s", must=500, aim=2000, better="higher")
    book.notes.append(
        f"`cryoloom predict` on {s.read:,} images on disk; encoders as by default, both views of each image."
    )


def _spread_row(book: Notebook, what: str, runs: list[Evaluated]) -> None:
    book.row(f"{what}: median {ERROR}, worst of {len(runs)} seeds", max(map(rotation_error, runs)))


def _about(book: Notebook) -> str:
    s = book.sizes
    return (
        f"{s.particles:,} images of {ADK.box} pixels of {ADK.pixel_size:g} Å (AdK 4AKE, chain A; defocus 0.4 to 1.2 "
        f"µm) or {RIBOSOME.box} of {RIBOSOME.pixel_size:g} Å (80S; 1 to 2 µm), off centre by up to "
        f"{100 * SHIFT:.1f} % of the box, cropped in Fourier space to {s.box}; pixels are those of that box. "
        f"FourierNet of {s.width} units, dense encoder; a step compares {100 * s.coefficients:.0f} % of an image's "
        f"coefficients; {s.ideal_passes} passes without noise, else {s.passes}; "
        f"{s.seeds} seeds. The polished run is the network's, refined. The 80S begins with the volume of some searches "
        f"(`{s.begun}`), and in noise learns for {s.begun_passes} passes from there. At −10 dB a pose has "
        f"{s.noisy_hypotheses} hypotheses."
    )


TABLE1 = Table(
    name="cryoai-table1",
    title="CryoAI, Table 1: resolution, rotations and shifts",
    about="A network reads poses off images of two molecules, without noise and at −10 dB.",
    parts={
        "adk-ideal": partial(ideal, molecule=ADK),
        "adk-noisy": partial(noisy, molecule=ADK),
        "80s-ideal": partial(ideal, molecule=RIBOSOME),
        "80s-noisy": partial(noisy, molecule=RIBOSOME),
        "inference": inference,
        "reading": reading,
    },
    # Boxes of 32 with two fifths of an image's coefficients a step cost what boxes of 24 do with all.
    scales={**SCALES, "mini": Sizes(box=32, ideal_passes=50, coefficients=0.4)},
)
