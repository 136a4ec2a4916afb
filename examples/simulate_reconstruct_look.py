"""Simulate a molecule's particles, reconstruct them from nothing, compare with the truth, and look.

    python examples/simulate_reconstruct_look.py [FOLDER]

The same story as `cryoloom simulate`, `reconstruct`, `evaluate` and `report`, told with the functions behind them.
It is made small: a coarse box and few particles.
"""

import os
import sys
from pathlib import Path

# As the `cryoloom` command does: idle threads of one library must not keep spinning while another works.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from cryoloom.data import read_particles, read_volume
from cryoloom.evaluate.numbers import in_words
from cryoloom.evaluate.truth import evaluate_run
from cryoloom.report.html import write_report
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.run import Run, RunConfig
from cryoloom.solve.team import Team
from cryoloom.systems.loom import LoomSettings, reconstruct

BOX, PIXEL_SIZE = 32, 3.6


def simulate(folder: Path) -> None:
    """A molecule, and what a microscope would make of it."""
    # The phantom is a protein-like molecule of two domains that comes with the package, as a density (z, y, x) on a
    # grid of our choice. Any volumes could stand here: `conformations_of` makes them of structures and maps.
    molecule = phantom(BOX, PIXEL_SIZE)

    # Every particle is the molecule seen from a random direction, a little off centre, blurred by the microscope's CTF
    # and buried in noise of three times its variance.
    settings = Simulation(box=BOX, pixel_size=PIXEL_SIZE, particles=800, snr=1 / 3, shift=2, seed=1)
    simulate_particles([molecule], settings, folder)

    # Two things lie there now: particles.star with its images, which is all that a reconstruction gets to see, and
    # truth/.
    particles = read_particles(folder / "particles.star")
    print(f"{len(particles)} images of {particles.box} x {particles.box} pixels, {particles.pixel_size:g} Å each")
    print(f"poses known: {particles.has_poses}; CTF known: {particles.has_ctf}")

    # The poses that it has to find stand in truth/: x_image = R · x_volume, and shifts in Å.
    pose = read_particles(folder / "truth" / "particles.star").poses()
    print(f"the first one, in truth: shift {pose.best_shift[0].tolist()} Å, rotation\n{pose.best_rotation[0]}")


def solve(particles_star: Path, folder: Path) -> None:
    """From the images alone to a map and a pose for each of them."""
    # Every setting has a default that fits most data; with so few particles, smaller batches do.
    settings = LoomSettings.model_validate({"ab_initio": {"batch_size": 200}})

    # A run directory holds everything that is needed to repeat a run, and to go on with it after a power cut.
    config = RunConfig(particles=particles_star.resolve(), settings=settings.model_dump(mode="json"), seed=1)
    particles = read_particles(particles_star, require_images=True)
    config.fingerprint = particles.fingerprint()
    run = Run.create(folder, config)

    # Whoever wants to watch gets a call after every iteration.
    def progress(stage: str, done: int, total: int, text: str) -> None:
        if done % 10 == 0 or stage != "ab initio":
            print(f"  {stage}: {done} of at most {total}, {text}", flush=True)

    # No poses are given, so loom searches for them: each half-set makes its own map, then both are refined.
    with run.locked():
        reconstruct(particles, None, settings, run, Team(), progress)


def look(run: Path) -> None:
    """What came out, as numbers first."""
    volume, pixel_size = read_volume(run / "volumes" / "volume.mrc")
    print(f"a map of {volume.shape[-1]}³ voxels of {pixel_size:g} Å, densest {float(volume.max()):.3g}")

    # Each particle's posterior says how sure its pose is. Columns that are no standard ones keep their name.
    particles = read_particles(run / "particles.star")
    sigma = torch.as_tensor(particles.table["rotation_sigma_deg"].to_numpy(dtype="float32"))
    low, middle, high = torch.quantile(sigma, torch.tensor([0.1, 0.5, 0.9])).tolist()
    print(f"poses are sure to {middle:.1f}° (median), the best tenth to {low:.1f}°, the worst to more than {high:.1f}°")


def main(folder: Path) -> None:
    """Simulate, reconstruct, evaluate, look."""
    simulate(folder / "particles")
    solve(folder / "particles" / "particles.star", folder / "run")

    # Only now the truth comes out. A reconstruction can know neither which way the molecule stood, nor where, nor which
    # of its two mirror images it was: these are taken out before anything is compared.
    for what, value, unit in in_words(evaluate_run(folder / "run", folder / "particles" / "truth")):
        print(f"  {what:<40} {value:>10} {unit}")

    look(folder / "run")
    print(f"open {write_report(folder / 'run').resolve()}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "story"))
