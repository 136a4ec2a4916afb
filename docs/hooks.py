"""Fills pages with what the code itself says, at lines such as `<!-- help COMMAND -->`."""

import io
import re
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from cryoloom.cli.main import build_app
from cryoloom.cli.settings import setting_fields
from cryoloom.model.poses.shifts import shift_disc, shift_step
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import RotationGrid, point_group
from cryoloom.solve.em.abinitio import Bands
from cryoloom.solve.scope import Scope
from cryoloom.systems.catalogue import find_system


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    fillers = {"help": _help, "settings": _settings, "cost": _cost}
    return re.sub(r"^<!-- (help|settings|cost) (\w+) -->$", lambda m: fillers[m[1]](m[2]), markdown, flags=re.M)


def _help(command: str) -> str:
    screen = io.StringIO()
    console = Console(file=screen, width=96, color_system=None, legacy_windows=False)
    build_app(command).help_print([command], console=console)
    lines = "\n".join(line.rstrip() for line in screen.getvalue().strip().splitlines())
    return f'??? note "cryoloom {command} --help"\n\n' + _indented(f"```text\n{lines}\n```")


def _indented(text: str) -> str:
    return "\n".join("    " + line if line else "" for line in text.splitlines())


def _settings(system: str) -> str:
    fields = setting_fields(find_system(system).settings)
    rows = [f"| `--{option}` | {_value(default)} | {meaning} |" for option, default, meaning in fields]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])


def _value(default: Any) -> str:
    return "" if default is None else f"`{default}`"


def _cost(system: str, box: int = 32, extent: float = 0.08, diameter: float = 0.6) -> str:
    """Operations of the base search in the first band and the last, for shifts up to a part `extent` of the box.

    diameter: of a molecule without symmetry, as a part of the box; the bands follow it.
    """
    search = find_system(system).settings().ab_initio
    scope = Scope(point_group("C1"), extent * box, diameter * box / 2, diameter * box)
    bands = Bands.of(search, scope, SimpleNamespace(box=box, pixel_size=1.0))
    rotations = len(RotationGrid.with_spacing(bands.finest))
    columns = []
    for band in (bands.first, bands.last):
        shifts = len(shift_disc(extent * box, min(shift_step(box, band), extent * box)))
        coefficients = len(FrequencyLattice.of_box(box).prefix(band))
        image = 2 * shifts * rotations * (3 * coefficients + 1)
        both = 2 * image * search.batch_size
        columns.append(
            [f"{band:.1f}", f"{coefficients}", f"{rotations:,}", f"{shifts}", f"{image / 1e6:.1f}", f"{both / 1e9:.1f}"]
        )
    names = (
        f"band, for a molecule as wide as {100 * diameter:g} % of the box",
        "coefficients P",
        "rotations G",
        f"shifts S, within {100 * extent:g} % of a box of {box}",
        "10⁶ operations an image and product",
        f"10⁹ operations a batch of {search.batch_size}, both products",
    )
    rows = [f"| {name} | {first} | {last} |" for name, first, last in zip(names, *columns, strict=True)]
    return "\n".join(["| | first band | last |", "|---|---|---|", *rows])
