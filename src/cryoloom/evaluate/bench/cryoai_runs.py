"""What the benchmarks of cryoAI share: molecules, sizes, simulated images and runs."""

import json
from dataclasses import dataclass, replace
from typing import Any

from cryoloom.evaluate.bench.runs import Evaluated, evaluated_run, seeded
from cryoloom.evaluate.bench.tables import Notebook
from cryoloom.model.fields.settings import FieldName, FieldSettings, NetworkSettings
from cryoloom.solve.run import Run

ERROR = "‖R−R̂‖²_F"
# Particles lie off centre by up to two of 24 pixels, in x and in y.
SHIFT = 2 / 24


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


ADK = Molecule("AdK", "structures/4ake.pdb", "--chain A", 128, 0.8, "0.4 1.2")
RIBOSOME = Molecule("80S", "maps/80S_4ug0_potential_80_4A.mrc", "", 100, 4.0, "1 2", begun=True)


@dataclass(frozen=True)
class Sizes:
    """Particles; passes with and without noise, working box and units of the FourierNet; sizes of the other parts.

    Images are simulated at the molecule's own box, and cropped in Fourier space to the working one. begun,
    begun_passes: of a molecule that searches begin with, in noise; nothing_passes: of one without them.
    noisy_hypotheses: of a pose, with noise. coefficients: share of an image's that a step compares.
    """

    particles: int = 5000
    passes: int = 30
    ideal_passes: int = 60
    begun: str = "--searches 40 --readings 1200000 --encoder.flat 1 --train.noise shells"
    begun_passes: int = 25
    nothing_passes: int = 15
    box: int = 24
    width: int = 64
    many: int = 100_000
    read: int = 10_000
    read_box: int = 64
    seeds: int = 3
    field_particles: int = 2000
    field_passes: int = 12
    fields: tuple[FieldSettings, ...] = (_field("fouriernet", 240, 3), _field("siren", 270, 4), _field("mlp", 300, 3))
    noisy_hypotheses: int = 8
    coefficients: float = 1.0
    device: str = "cpu"


def simulated(
    book: Notebook, molecule: Molecule, name: str, snr: str, particles: int | None = None, box: int | None = None
) -> str:
    """Images of a molecule at its own box, or the same field of view in `box` pixels."""
    out, box = f"data/{molecule.name}-{name}", box or molecule.box
    pixel_size = molecule.pixel_size * molecule.box / box
    shape = ("--box", box, "--pixel-size", f"{pixel_size:g}", "--particles", particles or book.sizes.particles)
    shift = ("--shift", f"{SHIFT * box:.3g}", "--defocus", *molecule.defocus.split())
    given = (book.data(molecule.structure), *molecule.options.split())
    book.bench.cryoloom(out, "simulate", *given, *shape, *shift, "--snr", snr, "--seed", 0, "-o", out)
    return out


def data_of(book: Notebook, molecule: Molecule, kind: str) -> str:
    """Images without noise (ideal) or at −10 dB (noisy)."""
    return simulated(book, molecule, kind, {"ideal": "inf", "noisy": "0.1"}[kind])


def loom_run(book: Notebook, molecule: Molecule, kind: str, seed: int = 0) -> Evaluated:
    """What loom finds in the same images."""
    run = seeded(f"{molecule.name}-{kind}-loom", seed)
    return evaluated_run(book, data_of(book, molecule, kind), run, "loom", *limits_of(book, molecule, seed))


def network_and_polished(book: Notebook, molecule: Molecule, kind: str, seed: int = 0) -> tuple[Evaluated, Evaluated]:
    """What cryoai's network alone had found, with the time until then, and what its polished poses gave."""
    run = seeded(f"{molecule.name}-{kind}-cryoai", seed)
    data, folder = data_of(book, molecule, kind), book.bench.folder
    noisy = book.sizes.begun_passes if molecule.begun else book.sizes.passes
    passes = {"ideal": book.sizes.ideal_passes, "noisy": noisy}[kind]
    # In noise several poses are likely; without it the network says the one more exactly alone.
    several = {"hypotheses": book.sizes.noisy_hypotheses} if kind == "noisy" else {}
    polished = cryoai_run(book, molecule, data, run, "--polish", seed=seed, train_passes=passes, **several)
    found = f"{run}/network/evaluation.json"
    book.bench.cryoloom(found, "evaluate", f"{run}/network", "--truth", f"{data}/truth")
    seconds = next(line["seconds"] for line in polished.metrics if line["stage"] == "results")
    evaluation = json.loads((folder / found).read_text())
    return replace(polished, measured=replace(polished.measured, seconds=seconds), evaluation=evaluation), polished


def limits_of(book: Notebook, molecule: Molecule, seed: int = 0) -> tuple[object, ...]:
    """Working box, largest shift and seed, as for `reconstruct`."""
    shift = 1.5 * SHIFT * molecule.box * molecule.pixel_size
    return ("--box", book.sizes.box, "--max-shift-angst", f"{shift:.3g}", "--seed", seed)


def cryoai_run(
    book: Notebook, molecule: Molecule, data: str, run: str, *flags: str, seed: int = 0, **settings: object
) -> Evaluated:
    """A run of cryoai; settings: beside or instead of the table's, with _ for their dots, flags: what has no value."""
    s = book.sizes
    chosen = {
        "encoder_box": s.box,
        "network_width": s.width,
        "train_passes": s.passes,
        "train_coefficients": s.coefficients,
    } | settings
    begun = s.begun.split() if molecule.begun else []
    words = [word for name, value in chosen.items() for word in ("--" + name.replace("_", ".", 1), value)]
    return evaluated_run(book, data, run, "cryoai", *limits_of(book, molecule, seed), *begun, *words, *flags)


def resolution_px(run: Evaluated) -> float:
    """Resolution to the truth, FSC 0.5."""
    return run.number("fsc50_px")


def rotation_error(run: Evaluated) -> float:
    """Median of `ERROR` of all particles."""
    return run.number("rotation_error_median")


def wall_seconds(run: Evaluated) -> float:
    """Wall time of the whole run."""
    return run.measured.seconds


def shift_error_px2(book: Notebook, molecule: Molecule, run: Evaluated) -> float:
    """Mean square of the shifts' errors in pixels of the working box."""
    return run.number("shift_error_px_mean_square") * (book.sizes.box / molecule.box) ** 2


def has_mirror_plane(book: Notebook, run: str) -> bool:
    """Whether the run's alarms tell of a false mirror plane."""
    alarms = Run.open(book.bench.folder / run).alarms()
    return any(alarm["name"] == "mirror-plane" for alarm in alarms)


SCALES: dict[str, Any] = {
    "mini": Sizes(),
    "paper": Sizes(50_000, box=128, width=256, many=5_000_000, field_particles=50_000, device="cuda"),
    "quick": Sizes(
        *(200, 1, 1, "--searches 1 --readings 200", 1, 1, 24, 16, 300, 300),
        seeds=1,
        field_particles=100,
        field_passes=1,
    ),
}
