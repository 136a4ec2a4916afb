"""What a table of numbers is, and the loop over the parts of one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryoloom.errors import InputError
from cryoloom.evaluate.bench.machine import machine
from cryoloom.evaluate.bench.measure import CommandError, Workbench
from cryoloom.evaluate.bench.result import BenchResult, PartResult, Picture, Row, read_result, result_path


class Skip(Exception):
    """A part cannot be measured here; the reason."""


@dataclass
class Notebook:
    """What a part finds, told to `say` as it is found. sizes: the scale's settings. images: folder of pictures.

    rows_file: where a part that goes on where it was keeps its own. again: measure those anew. tell: says a line.
    """

    bench: Workbench
    sizes: Any
    images: Path
    say: Callable[[Row], None]
    rows: list[Row] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows_file: Path = Path("rows.jsonl")
    again: bool = False
    tell: Callable[[str], None] = print

    def row(self, name: str, value: float, unit: str = "", **goals: Any) -> None:
        """Note a number; goals: must, aim, better."""
        self.rows.append(Row(name, value, unit, **goals))
        self.say(self.rows[-1])

    def data(self, name: str) -> Path:
        """A file of the public data sets. Raises Skip where it is absent."""
        path = self.bench.data / name
        if not path.exists():
            raise Skip(f"{name} is not among the data sets of this machine")
        return path


Part = Callable[[Notebook], None]


@dataclass(frozen=True)
class Table:
    """A table of numbers: title, what it is about, its parts in order, and the settings of each scale.

    A scale may name its own device. A quick scale tries the benchmark itself: its result is no result and stays off
    the page. resumes: its parts keep rows of their own and are asked each time, since they may be unfinished.
    side_by_side: parts whose rows, named WHAT: NUMBER, stand as a table of their own on the page.
    """

    name: str
    title: str
    about: str
    parts: dict[str, Part]
    scales: dict[str, Any]
    device: str = "cpu"
    resumes: bool = False
    side_by_side: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """What is asked of a benchmark. output: folder of results. only: parts, all if empty. again: measure anew.

    sizes: the scale's settings, changed. data: folder of the public data sets. work: folder for runs.
    """

    table: Table
    scale: str
    output: Path
    work: Path
    data: Path
    images: Path
    command: str
    only: tuple[str, ...] = ()
    again: bool = False
    sizes: Any = None


def measure_table(
    order: Order, code: Callable[[], str], program: Callable[[], str], say: Callable[[str], None]
) -> BenchResult:
    """Measure a table part by part; the result file is written after each. code: the commit, "+" where files changed.

    Parts that the same unchanged code has measured are kept unless `again`, and so are runs of the same `program`, the
    commit of what is measured without the benchmarks.
    Raises InputError for an unknown scale or part.
    """
    table, scale = order.table, order.scale
    _check(order)
    path = result_path(order.output, table.name, scale)
    result = read_result(path) if path.exists() else BenchResult(table.name, scale, {}, "")
    device = getattr(order.sizes or table.scales[scale], "device", table.device)
    result = replace(result, machine=machine(device), command=order.command)
    done = {part.name: part.commit for part in result.parts if not part.skipped and not part.commit.endswith("+")}
    for name, part in table.parts.items():
        if order.only and name not in order.only:
            continue
        commit = code()
        if done.get(name) == commit and not order.again and not table.resumes:
            say(f"{name}: measured at {commit} already, --again repeats it")
            continue
        say(f"{name}: measuring")
        found = _measure_part(name, part, order, (commit, program()), say)
        if code() != commit and not commit.endswith("+"):
            say(f"{name}: the code changed meanwhile; measure it again before you publish it")
            found = replace(found, commit=commit + "+")
        result = result.with_part(found, tuple(table.parts))
        result.write(order.output)
    if result.parts:
        say(f"wrote {path}")
    return result


def _check(order: Order) -> None:
    table = order.table
    if order.scale not in table.scales:
        raise InputError(f"{table.name} has no scale {order.scale!r}: choose one of {', '.join(table.scales)}.")
    for name in order.only:
        if name not in table.parts:
            raise InputError(f"{table.name} has no part {name!r}: choose from {', '.join(table.parts)}.")


def _measure_part(
    name: str, part: Part, order: Order, commits: tuple[str, str], say: Callable[[str], None]
) -> PartResult:
    commit, program = commits
    bench = Workbench(order.work / order.table.name / order.scale, order.data, program)
    if order.again:
        bench.forget(name)
    sizes = order.sizes or order.table.scales[order.scale]
    notebook = Notebook(bench, sizes, order.images, lambda row: say("  " + in_words(row)))
    rows_file = result_path(order.output, order.table.name, order.scale).with_suffix(".rows.jsonl")
    notebook = replace(notebook, rows_file=rows_file, again=order.again, tell=say)
    started, skipped = time.perf_counter(), ""
    try:
        part(notebook)
    except (Skip, CommandError) as error:
        # The log's place is of use to who measures, not to who reads the page.
        say(f"{name}: {'skipped' if isinstance(error, Skip) else 'failed'}: {error}")
        skipped = str(error).replace(str(bench.folder) + "/", "").replace(str(bench.data), "DATA")
    return PartResult(
        name=name,
        rows=tuple(notebook.rows),
        pictures=tuple(notebook.pictures),
        notes=tuple(notebook.notes),
        commands=tuple(dict.fromkeys(bench.commands)),
        skipped=skipped,
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=commit,
        seconds=round(time.perf_counter() - started, 1),
    )


def number(value: float | None) -> str:
    """A number as people write it: three figures, no exponent in the usual range."""
    if value is None or value != value:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def in_words(row: Row) -> str:
    """A row as one line."""
    goals = [f"{word} {number(goal)}" for word, goal in (("must", row.must), ("aim", row.aim)) if goal is not None]
    verdict = {None: "", True: "  ok", False: "  NOT REACHED"}[row.ok]
    value = f"{row.name}: {number(row.value)} {row.unit}".rstrip()
    return value + (f"  ({', '.join(goals)})" if goals else "") + verdict
