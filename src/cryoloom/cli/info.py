"""`cryoloom info`: what is in a particle file, what is missing, what looks wrong."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from cryoloom.data import Particles, read_particles
from cryoloom.data.checks import findings
from cryoloom.data.findings import Finding
from cryoloom.solve.em.spherical import contrast_sign

# So many images are read in a second or two.
_SAMPLE = 400


def info(particles: Path, *, datadir: Path | None = None, all_images: bool = False) -> None:
    """Show what is in a particle file, what is missing, and what looks wrong.

    Reads RELION .star, cryoSPARC .cs, .mrcs stacks and .txt lists of stacks, and looks at up to 400 images: contrast,
    broken images, hot and dead pixels, pixel size, CTF, units of the shifts. Nothing is changed or written.

    Parameters
    ----------
    particles
        The file to look at, for example `particles.star`.
    datadir
        Folder of the image stacks, where the file's own paths do not lead to them.
    all_images
        Read every image and not a sample, so that all broken ones and all outlier pixels are counted.
    """
    loaded = read_particles(particles, datadir=datadir)
    console = Console()
    table = Table(title=f"{loaded.source}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in describe(loaded):
        table.add_row(name, value)
    found = findings(loaded, len(loaded) if all_images else _SAMPLE)
    if loaded.has_images and not any(finding.serious for finding in found):
        found.append(contrast(loaded))
    for finding in found:
        table.add_row("[red]looks wrong[/red]" if finding.serious else "note", finding.text)
    console.print(table)


def contrast(particles: Particles) -> Finding:
    """Whether the molecule is white or black in the images, or that they do not decide it."""
    sign, evidence = contrast_sign(particles)
    white = sign == (-1 if particles.has_ctf else 1)
    text = {0: "contrast"}.get(sign, "contrast: the molecule is " + ("white" if white else "black") + " in the images")
    # Either sign is a habit, not a fault: the map is turned positive in the end.
    return Finding(f"{text} ({evidence})", False)


def _span(values: np.ndarray, unit: str) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g} {unit}" if low == high else f"{low:g} to {high:g} {unit}"


def describe(particles: Particles) -> list[tuple[str, str]]:
    """Name and value of everything that a particle file says, for a table."""
    column, files = particles.column, particles.files()
    box = f"{particles.box} px" if particles.box else "unknown until the images are found"
    rows = [
        ("format", "".join(particles.source.suffixes[-2:]) or "unknown"),
        ("particles", f"{len(particles):,}"),
        (
            "images",
            f"in {len(files):,} {'stack' if len(files) == 1 else 'stacks'}, "
            + ("all found" if particles.has_images else "some missing"),
        ),
        ("box", box),
        ("pixel size", f"{particles.pixel_size:g} Å (finest possible resolution {2 * particles.pixel_size:.3g} Å)"),
        ("optics groups", f"{len(np.unique(column('optics_group')))}"),
    ]
    if particles.has_ctf:
        defocus = (column("defocus_u") + column("defocus_v")) / 2
        rows += [
            ("microscope", f"{_span(column('voltage_kv'), 'kV')}, Cs {_span(column('cs_mm'), 'mm')}"),
            ("amplitude contrast", _span(column("amplitude_contrast"), "")),
            ("defocus", _span(defocus.round(), "Å")),
        ]
        if column("phase_shift").any():
            rows.append(("phase shift", _span(column("phase_shift"), "°")))
    else:
        rows.append(("CTF", "none"))
    if particles.has_poses:
        reach = np.hypot(column("shift_x"), column("shift_y"))
        rows.append(("poses", f"rotations; shifts {_span(reach.round(2), 'Å')}"))
    else:
        rows.append(("poses", "none: they will be estimated"))
    halves = [int((column("half_set") == i).sum()) for i in (1, 2)]
    rows.append(("half-sets", f"{halves[0]:,} and {halves[1]:,}" if min(halves) else "none: split by the seed"))
    if particles.has_movies:
        rows.append(("movies", f"{len(particles.movies()):,}, frames {_span(column('frame'), '')}"))
    return rows
