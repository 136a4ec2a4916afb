"""`cryoloom bench`: measure a table of numbers on this machine."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from cryoloom.errors import InputError
from cryoloom.evaluate.bench.machine import code_commit, program_commit
from cryoloom.evaluate.bench.tables import Order, measure_table

_DATA = Path("../shared/data")


def bench(
    table: str,
    *,
    scale: str = "mini",
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("benchmarks/results"),
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    again: bool = False,
    work: Path = Path("runs/bench"),
    data: Path = _DATA,
) -> None:
    """Measure a table of numbers through this command, beside what they must reach, and write DIR/TABLE.SCALE.json.

    Each row is shown as it is measured and the file is written after each part, so that a stopped benchmark goes on
    where it was. Pictures go to docs/images of a checkout, else to DIR/images.

    Examples: `cryoloom bench main-job`, `cryoloom bench main-job --only sta betagal -o results`.

    Parameters
    ----------
    table
        Which table: main-job, cryodrgn2-table1, … (a wrong name lists them all).
    scale
        mini fits two cores; paper is the size of the publication.
    output
        Folder for the results.
    only
        Measure these parts of the table only.
    again
        Measure what the same code has measured already, too.
    work
        Folder for particles and runs, some GB.
    data
        Folder of the public data sets; what is absent there is skipped.
    """
    run_bench(table, scale=scale, output=output, only=only, again=again, work=work, data=data)


def run_bench(
    table: str,
    *,
    scale: str,
    output: Path,
    only: tuple[str, ...],
    again: bool,
    work: Path,
    data: Path,
    changes: dict[str, Any] | None = None,
) -> None:
    """As `bench`; changes: settings of the scale by name. Raises InputError for an unknown table, scale or part."""
    # All benchmarks at once take seconds to import, which --help need not wait for.
    from cryoloom.evaluate.bench.catalogue import find_table

    found = find_table(table)
    if not data.is_dir() and data != _DATA:
        raise InputError(f"{data} is no folder: give the folder of the public data sets with --data.")
    sizes = replace(found.scales[scale], **changes) if changes and scale in found.scales else None
    console = Console()
    order = Order(
        table=found,
        scale=scale,
        output=output,
        work=work,
        data=data,
        images=images_folder(output),
        command=_as_typed(),
        only=only,
        again=again,
        sizes=sizes,
    )

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    measure_table(order, code_commit, program_commit, say)


def images_folder(output: Path) -> Path:
    """docs/images of the checkout whose benchmarks/results `output` is, else a folder in `output`."""
    whole = output.absolute()
    in_checkout = whole.parts[-2:] == ("benchmarks", "results")
    return whole.parents[1] / "docs/images" if in_checkout else output / "images"


def _as_typed() -> str:
    """The command without the places of this machine, which nobody else has."""
    program = Path(sys.argv[0])
    words = ["python", f"benchmarks/{program.name}"] if program.suffix == ".py" else [program.name]
    return shlex.join([*words, *("DIR" if Path(word).is_absolute() else word for word in sys.argv[1:])])
