"""`cryoloom volumes`: maps of chosen conformations, and their film."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter, validators
from numpy.typing import NDArray
from rich.console import Console

from cryoloom.cli.progress import StageProgress
from cryoloom.data import write_volume
from cryoloom.data.files import replacing
from cryoloom.errors import InputError
from cryoloom.evaluate.film import frames, gif_bytes, write_chimerax, write_mp4
from cryoloom.evaluate.landscape import read_conformations
from cryoloom.evaluate.maps import surface_level
from cryoloom.evaluate.traversal import along_axis, of_movie, of_particles, read_points


def volumes(
    run: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    at: Path | None = None,
    along: str | None = None,
    steps: Annotated[int, Parameter(validator=validators.Number(gte=2))] = 10,
    particles: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (),
    movie: str | None = None,
    box: Annotated[int | None, Parameter(validator=validators.Number(gte=16))] = None,
) -> None:
    """Write maps of conformations that you choose, a film of them, and a script that opens them in ChimeraX.

    Say which in one way: a file of z, an axis, particles or a movie. DIR gets volume_000.mrc and so on, z.csv with the
    conformation of each, film.gif (film.mp4 too where imageio-ffmpeg is installed), and open.cxc.

    Examples: `cryoloom volumes run --along pc1 --steps 10 -o pc1`, `cryoloom volumes run --particles 12 40 -o two`,
    `cryoloom volumes run --at z.csv -o chosen`.

    Parameters
    ----------
    run
        Folder of a finished run with conformations, such as one of cryodrgn.
    output
        Folder for the maps; it must be new or empty.
    at
        File with one conformation a line: as many numbers as the run's z-dim, apart by commas or blanks.
    along
        pc1, pc2 …: a principal component, from its 5th to its 95th percentile. graph: the shortest way from particle to
        particle between the ends of pc1, which stays where particles are.
    steps
        Maps along an axis.
    particles
        Maps as these particles have them: rows of RUN/particles.star, counted from 0.
    movie
        Maps of all frames of this movie, in their order.
    box
        Voxels of a side, for smaller maps than the run's; the field of view stays. Even.
    """
    if sum((at is not None, along is not None, bool(particles), movie is not None)) != 1:
        raise InputError("say which conformations in one way: --at FILE, --along pc1, --particles 12 40, or --movie 3.")
    if box is not None and box % 2:
        raise InputError(f"--box {box} is odd: give an even number.")
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InputError(f"{output} is not empty: choose a new folder with -o, so that nothing is overwritten.")
    field, latents, of = read_conformations(run)
    z = latents.mean.double().numpy()
    if at is not None:
        points = read_points(at, field.z_dim)
    elif along is not None:
        points = along_axis(z, along, steps)
    elif movie is not None:
        points = of_movie(z, of, movie)
    else:
        points = of_particles(z, particles)
    console, made = Console(), []
    with StageProgress(console) as progress:
        for i, point in enumerate(points):
            made.append(field.volume(torch.tensor(point, dtype=torch.float32), box))
            progress("volumes", i + 1, len(points), "")
    written = _write(output, points, made, field.pixel_size * field.box / made[0].shape[-1], along is not None)
    for path in written:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _write(output: Path, points: NDArray, made: list[torch.Tensor], pixel_size: float, back: bool) -> list[Path]:
    """All files of a series; the paths to name, the first map standing for all. back: the film returns."""
    maps = [output / f"volume_{i:03d}.mrc" for i in range(len(made))]
    for path, volume in zip(maps, made, strict=True):
        write_volume(path, volume, pixel_size)
    header = ",".join(f"z{i + 1}" for i in range(points.shape[1]))
    with replacing(output / "z.csv") as temporary:
        np.savetxt(temporary, points, delimiter=",", header=header, comments="", fmt="%.9g")
    pictures = frames(made)
    with replacing(output / "film.gif") as temporary:
        temporary.write_bytes(gif_bytes(pictures, back))
    write_chimerax(output / "open.cxc", maps, float(np.mean([surface_level(v.numpy()) for v in made])))
    films = [output / "film.mp4"] if write_mp4(output / "film.mp4", pictures, back) else []
    return [maps[0], *maps[-1:], output / "z.csv", output / "film.gif", *films, output / "open.cxc"]
