"""`cryoloom export`: hand a run to RELION, cryoSPARC or cryoDRGN."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from rich.console import Console

from cryoloom.data import Particles, read_particles, write_star
from cryoloom.data.cryodrgn import write_latent_pickle, write_pickles
from cryoloom.data.cryosparc import has_other_axes, volume_on_cryosparcs_axes, write_cs
from cryoloom.data.files import replacing
from cryoloom.data.mrc import read_volume, write_volume
from cryoloom.data.outputs import writing
from cryoloom.errors import InputError
from cryoloom.evaluate.landscape import matched_latents
from cryoloom.solve.run import Run

World = Literal["relion", "cryosparc", "cryodrgn"]
# What each world calls our maps; RELION's PostProcess finds the second half map by the name of the first.
_MAPS: dict[World, dict[str, str]] = {
    "relion": {
        "volume.mrc": "run_class001.mrc",
        "half_1.mrc": "run_half1_class001_unfil.mrc",
        "half_2.mrc": "run_half2_class001_unfil.mrc",
    },
    "cryosparc": {
        "volume.mrc": "volume_map.mrc",
        "half_1.mrc": "volume_map_half_A.mrc",
        "half_2.mrc": "volume_map_half_B.mrc",
    },
    "cryodrgn": {"volume.mrc": "volume.mrc", "half_1.mrc": "half_1.mrc", "half_2.mrc": "half_2.mrc"},
}

# What each world gets beside maps.
_TABLES: dict[World, tuple[str, ...]] = {
    "relion": ("particles.star",),
    "cryosparc": ("particles.cs",),
    "cryodrgn": ("particles.star", "pose.pkl", "ctf.pkl", "z.pkl"),
}


def export(
    run: Path,
    *,
    to: World,
    output: Annotated[Path, cyclopts.Parameter(name=["--output", "-o"])],
    overwrite: bool = False,
) -> None:
    """Write a run's particles and maps as another program reads them.

    relion gives a RELION 3.1 STAR file and maps named for PostProcess; cryosparc a .cs table for Import Particle Stack;
    cryodrgn pose.pkl and ctf.pkl with a STAR file of the images, and z.pkl where the run has conformations. Image
    stacks are not copied: the files point at them.

    Parameters
    ----------
    run
        Folder of a finished run, with particles.star and volumes/.
    to
        The program that is to read it: relion, cryosparc or cryodrgn.
    output
        Folder to write into; it is made if it does not exist.
    overwrite
        Replace files there that another command wrote.
    """
    star = run / "particles.star"
    if not star.is_file():
        raise InputError(f"{run} holds no particles.star; expected the folder of a finished run: check the name.")
    particles = read_particles(star)
    latents = matched_latents(run, particles) if to == "cryodrgn" and (run / "latents.npz").is_file() else None
    output.mkdir(parents=True, exist_ok=True)
    symmetry = Run.open(run).config.symmetry if (run / "config.yaml").is_file() else "C1"
    maps = _maps(run / "volumes", to)
    targets = [output / name for name in (*_TABLES[to], *maps.values())]
    with writing(targets, f"export {run.absolute()} {to}", [star, *maps, *particles.files()], overwrite):
        written = _write_particles(particles, to, output, symmetry)
        if latents is not None:
            write_latent_pickle(output / "z.pkl", latents.mean.numpy(), latents.log_var.numpy())
            written.append(output / "z.pkl")
        written += _copy_maps(maps, to, output, symmetry)
    console = Console()
    for path in written:
        console.print(str(path), soft_wrap=True)


def _write_particles(particles: Particles, to: World, output: Path, symmetry: str) -> list[Path]:
    if to == "cryosparc":
        write_cs(output / "particles.cs", particles, symmetry)
        return [output / "particles.cs"]
    write_star(output / "particles.star", particles)
    pickles = write_pickles(output, particles) if to == "cryodrgn" else []
    return [output / "particles.star", *pickles]


def _maps(volumes: Path, to: World) -> dict[Path, str]:
    """The run's maps, and what each is called there."""
    named = {volumes / ours: theirs for ours, theirs in _MAPS[to].items() if (volumes / ours).is_file()}
    return named | {path: path.name for path in sorted((volumes / "conformations").glob("*.mrc"))}


def _copy_maps(maps: dict[Path, str], to: World, output: Path, symmetry: str) -> list[Path]:
    for ours, theirs in maps.items():
        if to == "cryosparc" and has_other_axes(symmetry):
            volume, pixel_size = read_volume(ours)
            write_volume(output / theirs, volume_on_cryosparcs_axes(volume, symmetry), pixel_size)
            continue
        with replacing(output / theirs) as temporary:
            shutil.copyfile(ours, temporary)
    return [output / theirs for theirs in maps.values()]
