"""`cryoloom predict`: poses of particles that a trained network never saw."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from cryoloom.cli.progress import StageProgress
from cryoloom.cli.settings import checked_settings
from cryoloom.data import read_particles, write_star
from cryoloom.data.checks import check_images
from cryoloom.data.outputs import writing
from cryoloom.errors import InputError
from cryoloom.solve.predict import predict_poses
from cryoloom.solve.results import width_columns
from cryoloom.solve.run import Run
from cryoloom.solve.setup import NeuralSettings, Setup
from cryoloom.solve.team import Team
from cryoloom.systems.catalogue import SYSTEMS, find_system


def predict(
    run: Path,
    particles: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    datadir: Path | None = None,
    ctf: Path | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Read poses off particles with the network that a run has trained, and write them as a STAR file.

    The particles need the CTF, the box and the pixel size of those that the network was trained on, and nothing else.

    Example: `cryoloom predict run1 new_particles.star -o posed.star`, then
    `cryoloom reconstruct new_particles.star --poses posed.star --refine -o run2`.

    Parameters
    ----------
    run
        A finished run of a system whose poses a network reads, such as cryoai.
    particles
        RELION .star, cryoSPARC .cs, or .mrcs.
    output
        STAR file to write.
    datadir
        Folder that image file names are relative to.
    ctf
        File that gives or replaces the CTF.
    limit
        Use at most this many particles, from the front.
    overwrite
        Replace the STAR file if another command wrote it.
    device
        auto takes CUDA where there is one.
    """
    opened = Run.open(run)
    system = find_system(opened.config.system)
    if system.parts is None:
        able = ", ".join(name for name, each in SYSTEMS.items() if each.parts is not None)
        raise InputError(f"{run} is a run of {system.name}, which reads no poses off images: give a run of {able}.")
    settings = checked_settings(system.settings, opened.config.settings, run / "config.yaml")
    assert isinstance(settings, NeuralSettings)
    box = opened.config.box
    given = read_particles(particles, datadir=datadir, ctf=ctf, limit=limit, box=box, require_images=True)
    check_images(given)
    team, console = Team.launch(device), Console()
    with StageProgress(console) as progress:
        setup = Setup(given, settings, opened, team, progress, writes=False)
        predicted = predict_poses(setup, system.parts(setup, settings, None))
    by = f"predict {run.absolute()} {particles.absolute()} {ctf} {limit}"
    with writing([output], by, [given.source, *given.files()], overwrite):
        write_star(output, given, pose=predicted.poses, columns=width_columns(predicted.widths))
    console.print(f"read {len(given):,} images, {predicted.images_per_s:,.0f} a second", highlight=False)
    console.print(f"wrote {output}", highlight=False, soft_wrap=True)
