"""How rows of the success matrix are measured: simulated molecules, and real particles with their own judge."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cryoloom.data import read_particles, write_star
from cryoloom.evaluate.bench.measure import CommandError
from cryoloom.evaluate.bench.success_judge import claimed_but_denied, judged, said
from cryoloom.evaluate.bench.success_molecules import MOLECULES, Molecule, molecule_file, preferred_views
from cryoloom.evaluate.bench.success_store import Cell
from cryoloom.evaluate.bench.tables import Notebook, Skip

VARIANTS = {"plain": "", "preferred": "--orientations made/preferred.star", "junk": "--junk 0.1"}
_CPU = ("--device", "cpu")


def molecule_named(name: str) -> Molecule:
    """The molecule of the matrix with a name."""
    return next(molecule for molecule in MOLECULES if molecule.name == name)


def simulate_cell(book: Notebook, cell: Cell) -> str:
    """Simulate the images of a cell; returns their folder in the bench's."""
    molecule, s, out = molecule_named(cell.molecule), book.sizes, f"{cell.folder}/data"
    box = s.box or molecule.box
    pixel_size = molecule.pixel_size * molecule.box / box
    if cell.variant == "preferred" and not (book.bench.folder / "made/preferred.star").is_file():
        preferred_views(book.bench.folder / "made/preferred.star")
    shape = f"--box {box} --pixel-size {pixel_size:g} --particles {s.particles or molecule.particles}"
    options = f"{molecule.options} {shape} --snr {cell.snr:g} {VARIANTS[cell.variant]} --seed {cell.seed}"
    book.bench.cryoloom(out, "simulate", molecule_file(book, molecule), *options.split(), "-o", out)
    return out


def simulated(book: Notebook, cell: Cell) -> dict[str, Any]:
    """Simulate, reconstruct with default settings, evaluate."""
    data, run = simulate_cell(book, cell), f"{cell.folder}/run"
    symmetry = molecule_named(cell.molecule).symmetry
    given = [] if symmetry == "C1" else ["--symmetry", symmetry]
    options = (*given, "--seed", cell.seed)
    time = book.bench.cryoloom(run, "reconstruct", f"{data}/particles.star", "-o", run, *_CPU, *options)
    book.bench.cryoloom(f"{run}/evaluation.json", "evaluate", run, "--truth", f"{data}/truth")
    folder = book.bench.folder / run
    found = judged(folder, book.bench.folder / data / "truth") | said(folder)
    found |= {"denied_shells": claimed_but_denied(folder), "seconds": round(time.seconds, 1)}
    return found | {"memory_gb": round(time.memory_gb, 2), "options": " ".join(map(str, options))}


def real(book: Notebook, cell: Cell) -> dict[str, Any]:
    """Reconstruct a real set with default settings, beside the symmetry and box that its variant names."""
    star, options = _REAL[cell.molecule](book, cell)
    run = f"{cell.folder}/run"
    options = (*options, "--seed", cell.seed)
    time = book.bench.cryoloom(run, "reconstruct", star, "-o", run, *_CPU, *options)
    folder = book.bench.folder / run
    found: dict[str, Any] = {"right": None, **said(folder), "seconds": round(time.seconds, 1)}
    found |= {"memory_gb": round(time.memory_gb, 2), "options": " ".join(map(str, options))}
    return found | (judge_apoferritin(book, folder) if cell.molecule == "apoferritin" else {})


def judge_file(book: Notebook) -> Path:
    """The script that judges maps of the real apoferritin set; it lies beside the data sets. Raises Skip."""
    judge = book.bench.data.parent / "tools/judge_apoferritin.py"
    if not judge.is_file():
        raise Skip("tools/judge_apoferritin.py does not stand beside the data sets of this machine")
    return judge


def judge_apoferritin(book: Notebook, run: Path) -> dict[str, Any]:
    """What the judge of the real apoferritin set says of a run. Raises CommandError where it says nothing."""
    model = book.data("structures/7a4m.cif")
    command = [sys.executable, str(judge_file(book)), str(run), "--model", str(model)]
    # Its exit status is the verdict, so that a wrong map is no failure of the command.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise CommandError(f"the judge says {done.stderr.strip()[-200:] or 'nothing'} ({run})") from error
    return {
        "right": said["right"],
        "resolution_fsc50_angst": said["resolution_to_model_A"],
        "not_round_fsc": said["not_round_fsc"],
        "denied_shells": said["shells_where_half_maps_claim_what_the_model_denies"],
    }


def _apoferritin(book: Notebook, cell: Cell) -> tuple[object, tuple[object, ...]]:
    judge_file(book)
    s, symmetry = book.sizes, cell.variant.split("-")[0]
    box = () if cell.variant.endswith("full") else ("--box", s.box or 64)
    limit = ("--limit", s.particles) if s.particles else ()
    return book.data("particles/apoferritin_real/apoferritin.star"), ("--symmetry", symmetry, *box, *limit)


def _ribosome(book: Notebook, cell: Cell) -> tuple[object, tuple[object, ...]]:
    folder, star = book.data("particles/sta_ribosome_220"), f"{cell.folder}/particles.star"
    # The STAR file says 1.96 Å; the pickle knows the true 14.56 Å of the binned images.
    particles = read_particles(folder / "sta_testing_bin8.star", ctf=folder / "sta_ctf.pkl")
    (book.bench.folder / cell.folder).mkdir(parents=True, exist_ok=True)
    # Its own half-sets are one ribosome and five: three and three make a map of each.
    _, ribosome_of = np.unique(particles.table["rlnGroupName"].astype(str), return_inverse=True)
    write_star(book.bench.folder / star, particles.with_columns(half_set=1 + ribosome_of % 2))
    return star, ("--poses", "known", "--mask-diameter-angst", 420)


def _trpv1(book: Notebook, cell: Cell) -> tuple[object, tuple[object, ...]]:
    folder, star = book.data("particles/trpv1_10"), f"{cell.folder}/particles.star"
    # The file names the stack by what it was called elsewhere.
    text = (folder / "trpv1_small_stack.star").read_text()
    (book.bench.folder / cell.folder).mkdir(parents=True, exist_ok=True)
    stack = str(folder / "trpv1_small_stack.mrcs")
    (book.bench.folder / star).write_text(text.replace("./batch_0_restacked.mrc", stack))
    return star, ("--poses", "known", "--symmetry", "C4")


_REAL = {"apoferritin": _apoferritin, "sta-ribosome": _ribosome, "trpv1-10": _trpv1}
