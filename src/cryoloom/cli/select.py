"""`cryoloom select`: some of a run's particles, taken back to where they came from."""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from rich.console import Console

from cryoloom.data import read_particles, write_star
from cryoloom.data.cryosparc import write_cs
from cryoloom.data.matching import matching_rows
from cryoloom.data.outputs import writing
from cryoloom.data.particles import Particles
from cryoloom.data.rows import copy_rows, kind_of
from cryoloom.errors import InputError
from cryoloom.evaluate.choose import columns_of, rows_in_cluster, rows_in_file, rows_where
from cryoloom.evaluate.landscape import read_table
from cryoloom.solve.run import Run, RunConfig, read_source
from cryoloom.solve.skipped import read_skipped, without


def select(
    run: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    cluster: int | None = None,
    where: str | None = None,
    ind: Path | None = None,
    with_poses: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the particles of a run that you choose, as their own file had them: every column, every digit.

    Say which in one way. A .star stays a .star and a .cs a .cs; the other suffix converts.

    Examples: `cryoloom select run --cluster 3 -o selected.star`,
    `cryoloom select run --where 'rotation_sigma_deg < 5 and pc1 > 0' -o selected.star`.

    Parameters
    ----------
    run
        Folder of a run.
    output
        File to write, .star or .cs.
    cluster
        Particles of this cluster, as `cryoloom analyze` numbered them.
    where
        Particles for which a condition on the columns of RUN/particles.star and of the analysis holds: comparisons,
        arithmetic, and, or, not, in.
    ind
        Particles that this file lists: cryoDRGN's ind.pkl, .npy, or text; rows of RUN/particles.star from 0.
    with_poses
        Write the rows as the run has them, with its poses and conformations, instead of the source's.
    overwrite
        Replace the file if another command wrote it.
    """
    if sum((cluster is not None, where is not None, ind is not None)) != 1:
        raise InputError(
            "say which particles in one way: --cluster 3, --where 'rotation_sigma_deg < 5', or --ind FILE."
        )
    if kind_of(output) not in (".star", ".cs"):
        raise InputError(f"-o {output}: expected the name of a .star or .cs file.")
    config = Run.open(run).config
    if not (run / "particles.star").is_file():
        raise InputError(f"{run} holds no particles.star: `cryoloom resume {run}` carries it on to its results.")
    particles = read_particles(run / "particles.star")
    rows, asked = _rows(run, particles, cluster, where, ind)
    if not len(rows):
        raise InputError(f"{asked} leaves none of the {len(particles)} particles: ask for less.")
    inputs = [config.particles, run / "particles.star", *particles.files(), *([] if ind is None else [ind])]
    with writing([output], f"select {run.absolute()} {asked} {with_poses}", inputs, overwrite):
        if with_poses:
            _write(particles.subset(rows), output, config.symmetry)
        else:
            source = _source(run, config, particles)
            if not copy_rows(config.particles, output, source.column("source_row")[rows]):
                _write(source.subset(rows), output, config.symmetry)
    console = Console()
    console.print(f"{len(rows):,} of {len(particles):,} particles", highlight=False)
    console.print(f"wrote {output}", highlight=False, soft_wrap=True)


def _rows(
    run: Path, particles: Particles, cluster: int | None, where: str | None, ind: Path | None
) -> tuple[np.ndarray, str]:
    """Rows of the run's particles that are asked for, and the option that asks for them."""
    if ind is not None:
        return rows_in_file(ind, len(particles)), f"--ind {ind}"
    table = columns_of(particles, read_table(run, len(particles)))
    if cluster is not None:
        return rows_in_cluster(table, cluster), f"--cluster {cluster}"
    assert where is not None
    return rows_where(table, where), f"--where {where!r}"


def _source(run: Path, config: RunConfig, particles: Particles) -> Particles:
    """The particles of the run's source file; raises InputError where it is not what the run was made from."""
    source = read_source(config)
    if config.skip_bad_images:
        source = without(source, read_skipped(run))
    _check_same(source, particles, run)
    return source


def _write(particles: Particles, output: Path, symmetry: str) -> None:
    if kind_of(output) == ".cs":
        write_cs(output, particles, symmetry)
    else:
        write_star(output, particles)


def _check_same(source: Particles, particles: Particles, run: Path) -> None:
    """The source must still hold the images that the run saw, in their order."""
    if len(source) != len(particles) or not _same_images(source, particles):
        raise InputError(
            f"{source.source} is no longer the file that {run} was made from ({len(source)} particles, the run has "
            f"{len(particles)}): put it back, or use --with-poses for the run's own rows."
        )


def _same_images(source: Particles, particles: Particles) -> bool:
    try:
        rows = matching_rows(particles.image_names, source.image_names).rows
    except InputError:
        return False
    return np.array_equal(rows, np.arange(len(source)))
