"""RELION beside us in the success matrix: `relion_refine` by stochastic gradient descent on the same images."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoloom.data import Particles, read_particles, write_stack, write_star
from cryoloom.evaluate.bench.success_judge import judged
from cryoloom.evaluate.bench.success_runs import judge_apoferritin, judge_file, molecule_named, simulate_cell
from cryoloom.evaluate.bench.success_store import Cell
from cryoloom.evaluate.bench.tables import Notebook, Skip

_FLAGS = (
    "--sgd --denovo_3dref --oversampling {oversampling} --healpix_order {order} --offset_range {offset} "
    "--offset_step 2 --sgd_ini_iter {0} --sgd_inbetween_iter {1} --sgd_fin_iter {2} --sgd_ini_resol 35 "
    "--sgd_fin_resol 12 --sgd_ini_subset 100 --sgd_fin_subset 400 --pad 1 --ctf --flatten_solvent --zero_mask "
    "--norm --scale --pool 10 --j 1 --dont_check_norm"
)
# Of the real set the molecule is white already; RELION wants it white.
_REAL_BOX, _REAL_DIAMETER = 64, 140


def relion(book: Notebook, cell: Cell) -> dict[str, Any]:
    """RELION's map of a cell, judged as ours is. Raises Skip without RELION."""
    command = shutil.which("relion_refine")
    if command is None:
        raise Skip("relion_refine is not installed here (Debian: relion)")
    folder, run = book.bench.folder, f"{cell.folder}/run"
    if cell.variant == "real":
        judge_file(book)
        particles = read_particles(book.data("particles/apoferritin_real/apoferritin.star"))
        particles = particles.subset(slice(0, book.sizes.particles)).with_box(book.sizes.box or _REAL_BOX)
        data, symmetry, diameter, sign = "", "O", _REAL_DIAMETER, 1
    else:
        data, molecule = simulate_cell(book, cell), molecule_named(cell.molecule)
        particles, sign = read_particles(folder / data / "particles.star"), -1
        symmetry, diameter = molecule.symmetry, molecule.diameter
    star = relion_input(folder, cell.folder, particles, sign)
    s = book.sizes
    flags = _FLAGS.format(
        *s.relion_iterations, oversampling=s.relion_oversampling, offset=s.relion_offset, order=s.relion_order
    )
    options = f"--sym {symmetry} --particle_diameter {diameter:g} {flags} --random_seed {cell.seed + 1}"
    last = f"{cell.folder}/relion/r_it{sum(book.sizes.relion_iterations):03d}"
    given = ("--i", star, "--o", f"{cell.folder}/relion/r", *options.split())
    time = book.bench.program(f"{last}_class001.mrc", [command], "relion_refine", *given)
    _as_run(folder, cell.folder, last, symmetry)
    found: dict[str, Any] = {"alarms": [], "seconds": round(time.seconds, 1), "memory_gb": round(time.memory_gb, 2)}
    found["options"] = options
    if cell.variant == "real":
        told = judge_apoferritin(book, folder / run)
        # There are no half-maps that could claim anything.
        return found | {name: told[name] for name in told if name != "denied_shells"}
    book.bench.cryoloom(f"{run}/evaluation.json", "evaluate", run, "--truth", f"{data}/truth")
    return found | judged(folder / run, folder / data / "truth")


def relion_input(folder: Path, cell: str, particles: Particles, sign: int) -> str:
    """Images for RELION, molecule white and of unit variance, in CELL/white; the STAR file's name, with that prefix.

    RELION looks for stacks from where it is started, which is `folder`, so that the STAR file lies there, too.
    """
    stack, star = folder / cell / "white/particles.mrcs", folder / f"{cell.replace('/', '.')}.star"
    stack.parent.mkdir(parents=True, exist_ok=True)
    rows = np.arange(len(particles))
    spread = float(particles.images(rows[:500]).std())
    batches = (sign / spread * particles.images(part) for part in np.array_split(rows, max(1, len(rows) // 1000)))
    write_stack(stack, batches, len(rows), particles.box, particles.pixel_size)
    plain = particles.with_columns(image_file=str(stack), image_index=rows).with_poses(None)
    write_star(star, _at_its_box(plain))
    moved = folder / cell / "relion.star"
    shutil.move(star, moved)
    return f"{cell}/relion.star"


def _at_its_box(particles: Particles) -> Particles:
    """The particles as those of a stack that has their working box already."""
    return replace(particles, source_box=particles.box, source_pixel_size=particles.pixel_size)


def _as_run(folder: Path, cell: str, last: str, symmetry: str) -> None:
    """Lay RELION's map and poses where `cryoloom evaluate` and the judge look for those of a run of ours."""
    run = folder / cell / "run"
    (run / "volumes").mkdir(parents=True, exist_ok=True)
    for name in ("volume", "half_1", "half_2"):
        shutil.copyfile(folder / f"{last}_class001.mrc", run / f"volumes/{name}.mrc")
    # The oracle is that of the images as they were simulated.
    text = (folder / f"{last}_data.star").read_text().replace(f"{cell}/white/", f"{cell}/data/")
    (run / "particles.star").write_text(text)
    (run / "config.yaml").write_text(f"symmetry: {symmetry}\n")
