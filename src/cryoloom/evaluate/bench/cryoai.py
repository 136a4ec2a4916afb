"""CryoAI: Table 1 and other ways to a pose; Fig. 3, time by the number of images; Fig. 5, symmetric loss and fields."""

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from statistics import mean, median
from typing import Any

import torch

from cryoloom.data.mrc import read_volume, write_volume
from cryoloom.evaluate.align import align_volume
from cryoloom.evaluate.bench.curves import training_curves
from cryoloom.evaluate.bench.pictures import map_rows
from cryoloom.evaluate.bench.result import Picture
from cryoloom.evaluate.bench.runs import Evaluated, evaluated_run
from cryoloom.evaluate.bench.tables import Notebook, Table
from cryoloom.evaluate.fsc import fsc
from cryoloom.evaluate.truth import true_map
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.settings import FieldName, FieldSettings, NetworkSettings

_ERROR = "‖R−R̂‖²_F"
# 10 Å of the paper's 3.77 Å pixels.
_REACHED_PX = 2.65
# Particles lie off centre by up to two of 24 pixels, in x and in y.
_SHIFT = 2 / 24
_KINDS = {"ideal": "ideal", "noisy": "−10 dB"}
_OURS: dict[str, dict[str, object]] = {
    "as published": {"spread": 0, "rehearsal": 0},
    "with spread and rehearsal": {"spread": 1, "rehearsal": 1},
}


def _field(name: FieldName, width: int, blocks: int) -> FieldSettings:
    return FieldSettings(field=name, network=NetworkSettings(width=width, blocks=blocks))


@dataclass(frozen=True)
class Molecule:
    """A molecule of Table 1: file of the data sets, box and pixel size in Å of its images, defoci in µm.

    begun: by searches, since a network that begins with nothing learns to read nothing.
    """

    name: str
    structure: str
    options: str
    box: int
    pixel_size: float
    defocus: str
    begun: bool = False


_ADK = Molecule("AdK", "structures/4ake.pdb", "--chain A", 128, 0.8, "0.4 1.2")
_RIBOSOME = Molecule("80S", "maps/80S_4ug0_potential_80_4A.mrc", "", 100, 4.0, "1 2", begun=True)


@dataclass(frozen=True)
class Sizes:
    """Particles; passes with and without noise, working box and units of the FourierNet; sizes of the other parts.

    Images are simulated at the molecule's own box, and cropped in Fourier space to the working one. begun,
    begun_passes, begun_hypotheses: of a molecule that searches begin with, the last with noise.
    """

    particles: int = 5000
    passes: int = 30
    ideal_passes: int = 60
    begun: str = "--searches 40 --readings 1200000 --encoder.flat 1 --train.noise shells"
    begun_passes: int = 25
    box: int = 24
    width: int = 64
    many: int = 100_000
    read: int = 10_000
    read_box: int = 64
    symmetric_passes: int = 15
    seeds: int = 3
    field_particles: int = 2000
    field_passes: int = 12
    fields: tuple[FieldSettings, ...] = (_field("fouriernet", 240, 3), _field("siren", 270, 4), _field("mlp", 300, 3))
    begun_hypotheses: int = 8
    device: str = "cpu"


def ideal(book: Notebook, molecule: Molecule) -> None:
    """Images without noise: resolution, rotations and shifts."""
    found, polished = _network_and_polished(book, molecule, "ideal")
    what = f"{molecule.name}, ideal"
    book.row(f"{what}: resolution to the truth, FSC 0.5", _px(found), "px", must=2.3, aim=2.13)
    book.row(f"{what}: median {_ERROR}", found.number("rotation_error_median"), must=0.002, aim=0.0004)
    book.row(f"{what}: shift error, mean square", _shift_error(book, molecule, found), "px²", must=0.01, aim=0.001)
    book.row(f"{what}: whole run, wall", found.measured.seconds, "s")
    if molecule.begun:
        book.row(f"{what}, --polish: resolution to the truth, FSC 0.5", _px(polished), "px")
        book.row(f"{what}, --polish: median {_ERROR}", polished.number("rotation_error_median"))
        _from_nothing(book, molecule, found)
    book.notes.append(_about(book))


def _from_nothing(book: Notebook, molecule: Molecule, found: Evaluated) -> None:
    """The same without the searches at the beginning."""
    data, run, passes = _data(book, molecule, "ideal"), f"{molecule.name}-nothing", book.sizes.symmetric_passes
    alone = _run(book, replace(molecule, begun=False), data, run, train_passes=passes)
    what = f"{molecule.name}, ideal, from nothing"
    book.row(f"{what}: resolution to the truth, FSC 0.5", _px(alone), "px")
    book.row(f"{what}: median {_ERROR}", alone.number("rotation_error_median"))
    book.row(f"{what}: false mirror plane", _mirrored(book, run))
    curves = {"begun by searches": found, "from nothing": alone}
    left = {name: [m["unexplained"] for m in of.metrics if m["stage"] == "train"] for name, of in curves.items()}
    picture = f"cryoai_{molecule.name.lower()}_begun.png"
    training_curves(book.images / picture, left, "share of the images' power unexplained")
    book.pictures.append(Picture(picture, f"{molecule.name} without noise: what is left unexplained, pass by pass."))


def noisy(book: Notebook, molecule: Molecule) -> None:
    """Images at −10 dB: the network alone, polished, and loom."""
    data, name = _data(book, molecule, "noisy"), f"{molecule.name}-noisy"
    network, polished = _network_and_polished(book, molecule, "noisy")
    loom = evaluated_run(book, data, f"{name}-loom", "loom", *_limits(book, molecule))
    for system, run in {"loom": loom, "cryoai": network, "cryoai --polish": polished}.items():
        what = f"{molecule.name}, −10 dB, {system}"
        book.row(f"{what}: resolution to the truth, FSC 0.5", _px(run), "px")
        book.row(f"{what}: median {_ERROR}", run.number("rotation_error_median"))
        book.row(f"{what}: shift error, mean square", _shift_error(book, molecule, run), "px²")
        book.row(f"{what}: whole run, wall", run.measured.seconds, "s")
    what = f"{molecule.name}, −10 dB, cryoai"
    book.row(f"{what}: resolution over loom's", _px(network) / _px(loom), "×", must=1.25, aim=1.1)
    book.row(f"{what} --polish: resolution over loom's", _px(polished) / _px(loom), "×", must=1.05, aim=1.0)
    error = polished.number("rotation_error_median") / loom.number("rotation_error_median")
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
    for molecule, kind in ((_ADK, "ideal"), (_ADK, "noisy"), (_RIBOSOME, "noisy")):
        data, name, limits = _data(book, molecule, kind), f"{molecule.name}-{kind}", _limits(book, molecule)
        known = evaluated_run(book, data, f"{name}-known", "loom", *limits, "--poses", "known", truth=True)
        network, polished = _network_and_polished(book, molecule, kind)
        runs = {
            "known (loom --poses known)": known,
            "regressed (cryoai)": network,
            "searched (cryodrgn2)": evaluated_run(book, data, f"{name}-cryodrgn2", "cryodrgn2", *limits),
            "EM (loom)": evaluated_run(book, data, f"{name}-loom", "loom", *limits),
            "hybrid (cryoai --polish)": polished,
        }
        for way, run in runs.items():
            what = f"{molecule.name}, {_KINDS[kind]}, {way}"
            book.row(f"{what}: resolution to the truth, FSC 0.5", _px(run), "px")
            book.row(f"{what}: median {_ERROR}", run.number("rotation_error_median"))
            book.row(f"{what}: whole run, wall", run.measured.seconds, "s")
            book.row(f"{what}: most memory", run.measured.memory_gb, "GB")
    book.notes.append(_about(book))


def reading(book: Notebook) -> None:
    """Images a second that trained encoders read, of particles that they never saw."""
    s, bench = book.sizes, book.bench
    seen, new = (_simulate(book, _ADK, name, "0.1", n, s.read_box) for name, n in (("seen", 200), ("new", s.read)))
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


def fig3(book: Notebook) -> None:
    """Time until a resolution is reached, with few images and with many."""
    s, curves = book.sizes, {}
    reached: dict[int, float] = {}
    for n in (s.particles, s.many):
        data = _simulate(book, _ADK, f"set-{n}", "inf", n, s.box)
        found = _run(book, _ADK, data, f"run-{n}", "--train.keep-maps", train_images=s.particles)
        curves[f"{n:,} images"] = pixels = _by_pass(book, f"run-{n}", data, 0.5)
        seconds = [line["seconds"] for line in found.metrics if line["stage"] == "train"]
        reached[n] = min((t for t, px in zip(seconds, pixels, strict=True) if px <= _REACHED_PX), default=float("nan"))
        book.row(f"AdK, {n:,} images: time to {_REACHED_PX:g} px", reached[n], "s")
        book.row(f"AdK, {n:,} images: whole run, wall", found.measured.seconds, "s")
        book.row(f"AdK, {n:,} images: median {_ERROR}", found.number("rotation_error_median"))
    ratio = reached[s.many] / reached[s.particles]
    book.row(f"Time to {_REACHED_PX:g} px, {s.many:,} images over {s.particles:,}", ratio, "×", must=1.2, aim=1.0)
    training_curves(book.images / "cryoai_fig3.png", curves, "resolution to the truth, FSC 0.5, px")
    caption = f"Resolution after each {s.particles:,} images seen, of a small set and of a large one."
    book.pictures.append(Picture("cryoai_fig3.png", caption))
    book.notes.append(
        f"AdK without noise, simulated at the box of {s.box}; a pass sees {s.particles:,} images, drawn anew of the "
        f"large set. Resolution to the truth, FSC 0.5. Otherwise as Table 1, {s.passes} passes."
    )


def symmetric(book: Notebook) -> None:
    """False mirror planes with and without the symmetric loss, as published and with what we add."""
    s, curves = book.sizes, {}
    data = _simulate(book, _ADK, "ideal", "inf", box=s.box)
    size: dict[str, object] = {"field": "voxels", "train_learning-rate": 0.02, "train_passes": s.symmetric_passes}
    for words, added in _OURS.items():
        for loss in ("symmetric", "no-symmetric"):
            label, name = f"{loss} loss, {words}", f"{loss}-{'-'.join(map(str, added.values()))}"
            runs = [
                _run(book, _ADK, data, f"{name}-{seed}", f"--{loss}-loss", seed=seed, **size, **added)
                for seed in range(s.seeds)
            ]
            mirrored = sum(_mirrored(book, f"{name}-{seed}") for seed in range(s.seeds))
            goals: dict[str, Any] = {"must": 0} if loss == "symmetric" and added["rehearsal"] else {}
            book.row(f"{label}: false mirror planes, of {s.seeds} seeds", mirrored, **goals)
            error = median(run.number("rotation_error_median") for run in runs)
            book.row(f"{label}: median {_ERROR}, median of seeds", error)
            curves[label] = [mean(values) for values in zip(*(r.column("unexplained") for r in runs), strict=True)]
    training_curves(book.images / "cryoai_fig5_loss.png", curves, "share of the images' power unexplained")
    book.pictures.append(Picture("cryoai_fig5_loss.png", f"Mean of {s.seeds} seeds, pass by pass."))
    book.notes.append(
        f"AdK without noise, voxels as the field, {s.symmetric_passes} passes. A map has a false mirror plane where "
        "its correlation with its reflection in some plane, over shells to 8 Fourier pixels, is above 0.7; that of the "
        "true map is 0.50."
    )


def fields(book: Notebook, published: bool = False) -> None:
    """FourierNet, SIREN and a ReLU network with positional encoding, of about as many parameters.

    published: networks have to learn how a spectrum falls; else their values are scaled to it, shell by shell.
    """
    s, curves = book.sizes, {}
    data = _simulate(book, _ADK, "fields", "inf", s.field_particles, s.box)
    flag, words = ("--network.no-shell-scale", ", as published") if published else ("--network.shell-scale", "")
    for settings in s.fields:
        name, run = settings.field, settings.field + "-published" * published
        size = {"network_width": settings.network.width, "network_blocks": settings.network.blocks}
        _run(book, _ADK, data, run, "--train.keep-maps", flag, field=name, train_passes=s.field_passes, **size)
        curves[name] = _by_pass(book, run, data, 0.143)
        built = build_field(settings, s.box, torch.Generator())
        book.row(f"{name}{words}: parameters", sum(p.numel() for p in built.parameters()))
        book.row(f"{name}{words}: resolution, FSC 0.143, mean over the passes", mean(curves[name]), "px")
        book.row(f"{name}{words}: resolution, FSC 0.143, at the end", curves[name][-1], "px")
    first = float(min(curves, key=lambda name: mean(curves[name])) == "fouriernet")
    must = 1 if published else None
    book.row(f"FourierNet converges before SIREN and ReLU + encoding{words}", first, must=must, better="higher")
    picture = f"cryoai_fig5_fields{'_published' * published}.png"
    training_curves(book.images / picture, curves, "resolution to the truth, FSC 0.143, px")
    book.pictures.append(Picture(picture, "Resolution after each pass, by the field."))
    book.notes.append(f"AdK without noise, {s.field_particles:,} images, {s.field_passes} passes, seed 0.")


def _simulate(
    book: Notebook, molecule: Molecule, name: str, snr: str, particles: int | None = None, box: int | None = None
) -> str:
    """Images of a molecule at its own box, or the same field of view in `box` pixels."""
    out, box = f"data/{molecule.name}-{name}", box or molecule.box
    pixel_size = molecule.pixel_size * molecule.box / box
    shape = ("--box", box, "--pixel-size", f"{pixel_size:g}", "--particles", particles or book.sizes.particles)
    shift = ("--shift", f"{_SHIFT * box:.3g}", "--defocus", *molecule.defocus.split())
    given = (book.data(molecule.structure), *molecule.options.split())
    book.bench.cryoloom(out, "simulate", *given, *shape, *shift, "--snr", snr, "--seed", 0, "-o", out)
    return out


def _data(book: Notebook, molecule: Molecule, kind: str) -> str:
    return _simulate(book, molecule, kind, {"ideal": "inf", "noisy": "0.1"}[kind])


def _network_and_polished(book: Notebook, molecule: Molecule, kind: str) -> tuple[Evaluated, Evaluated]:
    """What cryoai's network alone had found, with the time until then, and what its polished poses gave."""
    data, run, folder = _data(book, molecule, kind), f"{molecule.name}-{kind}-cryoai", book.bench.folder
    passes = {"ideal": book.sizes.ideal_passes, "noisy": book.sizes.passes}[kind]
    passes = book.sizes.begun_passes if molecule.begun else passes
    # In noise several poses are likely; without it the network says the one more exactly alone.
    several = {"hypotheses": book.sizes.begun_hypotheses} if molecule.begun and kind == "noisy" else {}
    polished = _run(book, molecule, data, run, "--polish", train_passes=passes, **several)
    found = f"{run}/network/evaluation.json"
    book.bench.cryoloom(found, "evaluate", f"{run}/network", "--truth", f"{data}/truth")
    seconds = next(line["seconds"] for line in polished.metrics if line["stage"] == "results")
    evaluation = json.loads((folder / found).read_text())
    return replace(polished, measured=replace(polished.measured, seconds=seconds), evaluation=evaluation), polished


def _limits(book: Notebook, molecule: Molecule, seed: int = 0) -> tuple[object, ...]:
    shift = 1.5 * _SHIFT * molecule.box * molecule.pixel_size
    return ("--box", book.sizes.box, "--max-shift-angst", f"{shift:.3g}", "--seed", seed)


def _run(
    book: Notebook, molecule: Molecule, data: str, run: str, *flags: str, seed: int = 0, **settings: object
) -> Evaluated:
    """A run of cryoai; settings: beside or instead of the table's, with _ for their dots, flags: what has no value."""
    s = book.sizes
    chosen = {"encoder_box": s.box, "network_width": s.width, "train_passes": s.passes} | settings
    begun = s.begun.split() if molecule.begun else []
    words = [word for name, value in chosen.items() for word in ("--" + name.replace("_", ".", 1), value)]
    return evaluated_run(book, data, run, "cryoai", *_limits(book, molecule, seed), *begun, *words, *flags)


def _px(run: Evaluated) -> float:
    return run.number("fsc50_px")


def _shift_error(book: Notebook, molecule: Molecule, run: Evaluated) -> float:
    # Of pixels of the images to those of the working box.
    return run.number("shift_error_px_mean_square") * (book.sizes.box / molecule.box) ** 2


def _mirrored(book: Notebook, run: str) -> bool:
    alarms = json.loads((book.bench.folder / run / "alarms.json").read_text())
    return any(alarm["name"] == "mirror-plane" for alarm in alarms)


def _by_pass(book: Notebook, run: str, data: str, threshold: float) -> list[float]:
    """Resolution to the truth, px, of the map after each pass."""
    folder, found = book.bench.folder, []
    for path in (folder / run / f"volumes/pass_{i}.mrc" for i in count(1)):
        if not path.exists():
            return found
        volume, pixel_size = read_volume(path)
        truth = true_map(folder / data / "truth", volume.shape[-1], pixel_size)
        curve = fsc(align_volume(volume, truth).volume, truth, pixel_size)
        found.append(curve.resolution(threshold) / pixel_size)
    return found


def _about(book: Notebook) -> str:
    s = book.sizes
    return (
        f"{s.particles:,} images of {_ADK.box} pixels of {_ADK.pixel_size:g} Å (AdK 4AKE, chain A; defocus 0.4 to 1.2 "
        f"µm) or {_RIBOSOME.box} of {_RIBOSOME.pixel_size:g} Å (80S; 1 to 2 µm), off centre by up to "
        f"{100 * _SHIFT:.1f} % of the box, cropped in Fourier space to {s.box}; pixels are those of that box. "
        f"FourierNet of {s.width} units, dense encoder; {s.ideal_passes} passes without noise, else {s.passes}; "
        "seed 0. The polished run is the network's, refined. The 80S begins with the volume of some searches "
        f"(`{s.begun}`), and learns for {s.begun_passes} passes from there, at −10 dB with {s.begun_hypotheses} "
        "hypotheses."
    )


_SCALES: dict[str, Any] = {
    "mini": Sizes(),
    "paper": Sizes(50_000, box=128, width=256, many=5_000_000, field_particles=50_000, device="cuda"),
    "quick": Sizes(
        *(200, 1, 1, "--searches 1 --readings 200", 1, 24, 16, 300, 300),
        symmetric_passes=1,
        seeds=1,
        field_particles=100,
        field_passes=1,
    ),
}
TABLE1 = Table(
    name="cryoai-table1",
    title="CryoAI, Table 1: resolution, rotations and shifts",
    about="A network reads poses off images of two molecules, without noise and at −10 dB.",
    parts={
        "adk-ideal": partial(ideal, molecule=_ADK),
        "adk-noisy": partial(noisy, molecule=_ADK),
        "80s-ideal": partial(ideal, molecule=_RIBOSOME),
        "80s-noisy": partial(noisy, molecule=_RIBOSOME),
        "inference": inference,
        "reading": reading,
    },
    scales=_SCALES,
)
FIG3 = Table(
    name="cryoai-fig3",
    title="CryoAI, Fig. 3: time by the number of images",
    about="Time until the map is good enough, from few images and from many.",
    parts={"time": fig3},
    scales=_SCALES,
)
FIG5 = Table(
    name="cryoai-fig5",
    title="CryoAI, Fig. 5: symmetric loss and fields",
    about="False mirror planes with and without the symmetric loss; three kinds of network as the field.",
    parts={"loss": symmetric, "fields": fields, "fields-published": partial(fields, published=True)},
    scales=_SCALES,
)
