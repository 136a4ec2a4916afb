"""A simulated data set on disk: particles as a microscope would give them, and beside them the truth."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cryoloom import __version__
from cryoloom.data.assemble import Found, assemble
from cryoloom.data.files import replacing
from cryoloom.data.mrc import write_volume
from cryoloom.data.particles import Particles
from cryoloom.data.star_out import write_star
from cryoloom.errors import InputError
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.draws import JUNK, Draws, draw, generators
from cryoloom.simulate.images import Progress, write_images
from cryoloom.simulate.noise import noise_spectrum
from cryoloom.simulate.settings import SNR_DEFINITION, Simulation

PARTICLE_FILES = ("particles.star", "particles.mrcs")
TRUTH_FILES = ("truth/particles.star", "truth/truth.json", "truth/volume.mrc")


def simulate_particles(
    volumes: Conformations | Sequence[Tensor],
    settings: Simulation,
    output: Path,
    *,
    describe: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Simulate particles of `volumes`, each (D, D, D), into the folder `output` and return the paths written.

    particles.mrcs, particles.star (CTF, no poses), truth/volume.mrc or truth/conformations/*.mrc, truth/particles.star
    (poses, conformations) and truth/truth.json. particles.star comes last: where it is, the set is whole. describe:
    further entries of truth.json. progress: called with (what is done, how many more, of how many). Raises InputError.
    """
    conformations = volumes if isinstance(volumes, Conformations) else Conformations.of_volumes(volumes)
    streams = generators(settings.seed)
    draws = draw(settings, conformations, streams)
    spectrum = noise_spectrum(settings)
    tell = progress or (lambda what, more, of: None)
    volume_paths = _write_volumes(conformations, settings, output, tell)
    stack = output / "particles.mrcs"
    signal, noise = write_images(stack, settings, conformations, draws, spectrum, streams["noise"], tell)
    particles = _table(settings, draws, output)
    truth = output / "truth" / "particles.star"
    write_star(truth, particles, draws.pose, _conformation_columns(conformations, draws))
    facts = output / "truth" / "truth.json"
    measured: dict[str, Any] = {"signal_variance": signal, "noise_variance": noise}
    measured["noise_spectrum"] = [round(value, 6) for value in spectrum.tolist()] if settings.noise != "white" else 1.0
    _write_facts(facts, settings, conformations, volume_paths, measured | (describe or {}))
    star = output / "particles.star"
    write_star(star, particles)
    return [star, stack, truth, facts, *volume_paths]


def _write_volumes(conformations: Conformations, settings: Simulation, output: Path, tell: Progress) -> list[Path]:
    """Write the true maps into output/truth, in the place of whatever an earlier simulation left in `output`."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder to write the particles to.")
    k = len(conformations)
    names = [f"conformations/{i:03d}.mrc" for i in range(k)] if k > 1 else ["volume.mrc"]
    output.parent.mkdir(parents=True, exist_ok=True)
    # All are rendered before anything is removed: input that cannot be used costs nobody an old data set.
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as rendered:
        for i, name in enumerate(names):
            write_volume(Path(rendered) / name, _checked(conformations, i, settings), settings.pixel_size)
            tell("rendering the molecule", 1, k)
        _clear(output)
        top = Path(names[0]).parts[0]
        shutil.move(Path(rendered) / top, output / "truth" / top)
    return [output / "truth" / name for name in names]


def _clear(output: Path) -> None:
    """Remove what an earlier simulation left there, its particles.star first."""
    for name in (*PARTICLE_FILES, *TRUTH_FILES):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / "truth" / "conformations", ignore_errors=True)
    (output / "truth").mkdir(parents=True, exist_ok=True)


def _checked(conformations: Conformations, i: int, settings: Simulation) -> Tensor:
    volume = conformations.volume(i)
    if tuple(volume.shape) != (settings.box,) * 3:
        raise InputError(f"conformation {i} has {tuple(volume.shape)} voxels: expected a cube of {settings.box}.")
    return volume


def _table(settings: Simulation, draws: Draws, output: Path) -> Particles:
    n = settings.n
    stack = str((output / "particles.mrcs").absolute())
    columns: dict[str, Any] = {
        "image_file": pd.Categorical.from_codes(np.zeros(n, dtype=int), categories=[stack]),
        "image_index": np.arange(n),
    }
    if draws.ctf is not None:
        columns |= {name: value.numpy() for name, value in draws.ctf._asdict().items()}
    if draws.movie is not None and draws.frame is not None:
        width = len(str(settings.movies))
        names = np.array([f"movie_{i + 1:0{width}d}" for i in range(settings.movies or 0)], dtype=object)
        columns["movie_id"] = columns["micrograph_name"] = names[draws.movie.numpy()]
        columns["frame"] = draws.frame.numpy()
    return assemble(Found(output / "particles.star", n, columns, box=settings.box, pixel_size=settings.pixel_size))


def _conformation_columns(conformations: Conformations, draws: Draws) -> dict[str, Any]:
    coordinates = np.array([conformations.coordinate(i) for i in range(len(conformations))])
    index = draws.conformation.numpy()
    # Junk lies nowhere on the way; it stands there as a number that no reader chokes on.
    return {"conformation": index, "conformation_coordinate": np.where(index == JUNK, -1.0, coordinates[index])}


def _write_facts(
    path: Path, settings: Simulation, conformations: Conformations, volumes: list[Path], more: dict[str, Any]
) -> None:
    where = conformations.coordinate
    listed = [
        {"index": i, "name": name, "coordinate": where(i), "file": file.relative_to(path.parent).as_posix()}
        for i, (name, file) in enumerate(zip(conformations.names, volumes, strict=True))
    ]
    facts = {
        "structure": conformations.names[0] if len(listed) == 1 else [entry["name"] for entry in listed],
        "snr": settings.plain()["snr"],
        "snr_definition": SNR_DEFINITION,
        "seed": settings.seed,
        "settings": settings.plain(),
        "conformations": listed,
        "cryoloom": __version__,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(facts | more, indent=1, allow_nan=False) + "\n")
