"""`cryoloom demo`: the whole way on a built-in molecule."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from cryoloom.cli.evaluate import evaluate
from cryoloom.cli.reconstruct import reconstruct
from cryoloom.cli.report import report
from cryoloom.cli.simulate import simulate
from cryoloom.errors import InputError


def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo"),
    particles: int = 3000,
    seed: int = 0,
) -> None:
    """Simulate noisy images of a built-in molecule, reconstruct it from nothing, compare with the truth, report.

    Takes under three minutes on two cores. The particles lie in DIR/particles, the run in DIR/run.

    Parameters
    ----------
    output
        Folder for all of it; a demo that lies there already is kept, and a numbered folder beside it is taken.
    particles
        How many particles to simulate.
    seed
        Seed of the simulation and of the reconstruction.
    """
    output = _free(output)
    console = Console()
    console.rule("simulate: a hinged molecule, box 64, SNR 0.1")
    simulate(Path("phantom"), output=output / "particles", particles=particles, shift=3, seed=seed)
    console.rule("reconstruct: nothing known but the CTF")
    reconstruct(output / "particles" / "particles.star", output=output / "run", seed=seed)
    console.rule("evaluate: against the truth that the reconstruction never saw")
    evaluate(output / "run", truth=output / "particles" / "truth")
    report(output / "run")
    console.print(f"open {(output / 'run' / 'report.html').resolve()}", highlight=False, soft_wrap=True)


def _free(output: Path) -> Path:
    for n in range(1, 1000):
        candidate = output if n == 1 else output.with_name(f"{output.name}-{n}")
        if not candidate.exists():
            return candidate
    raise InputError(f"{output} and 998 numbered folders beside it exist: remove some or choose another -o.")
