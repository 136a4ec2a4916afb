"""Rows of the success matrix on disk: one JSON line each, appended as soon as a row is measured."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryoloom.evaluate.bench.machine import machine
from cryoloom.evaluate.bench.measure import CommandError
from cryoloom.evaluate.bench.success_judge import verdict
from cryoloom.evaluate.bench.tables import Notebook, Skip

Stored = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One row of the matrix: kind (simulated, real or relion), molecule, variant of its data, SNR, seed."""

    kind: str
    molecule: str
    variant: str
    snr: float | None
    seed: int

    @property
    def folder(self) -> str:
        """Its folder in the bench's."""
        snr = "" if self.snr is None else f"-snr{self.snr:g}"
        return f"{self.kind}/{self.molecule}-{self.variant}{snr}-seed{self.seed}"

    @classmethod
    def of(cls, row: Stored) -> "Cell":
        """The cell that a stored row is of."""
        return cls(row["kind"], row["molecule"], row["variant"], row["snr"], row["seed"])


@dataclass(frozen=True)
class Choice:
    """Which cells are asked for, all of a kind where nothing is named, and until when (seconds of time.monotonic).

    keep: leave the particles and the run of a row on disk.
    """

    molecules: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    snrs: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    deadline: float = math.inf
    keep: bool = False

    def takes(self, cell: Cell) -> bool:
        """Whether a cell is asked for."""
        asked = ((self.molecules, cell.molecule), (self.variants, cell.variant), (self.seeds, cell.seed))
        return all(not names or name in names for names, name in asked) and (
            not self.snrs or cell.snr is None or cell.snr in self.snrs
        )


class Store:
    """The rows in a file of JSON lines; the last one of a cell counts."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[Cell, Stored] = {}
        lines = path.read_text().splitlines() if path.is_file() else []
        for line in lines:
            # A computer that stopped in the middle of a line costs that line only.
            try:
                row = json.loads(line)
            except ValueError:
                continue
            # The numbers are kept, so that another definition of right needs no row to be measured again.
            if row.get("not_round") is not None:
                row["right"] = verdict(row["ratio"], row["rotation_error_deg_median"], row["not_round"])
            self.rows[Cell.of(row)] = row

    def of(self, cells: Iterable[Cell]) -> list[Stored]:
        """The rows there are of some cells, in their order."""
        return [self.rows[cell] for cell in cells if cell in self.rows]

    def has(self, cell: Cell, commit: str) -> bool:
        """Whether a cell was measured by the same unchanged code."""
        row = self.rows.get(cell)
        return row is not None and row["commit"] == commit and not commit.endswith("+")

    def append(self, row: Stored) -> None:
        """Add a row in one write at the end of the file, on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = "\n" + line
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        self.rows[Cell.of(row)] = row

    def expected_seconds(self, cell: Cell, otherwise: float) -> float:
        """How long a row will take: the longest of its molecule and variant, of its molecule, of its kind; a guess."""
        rows = [row for known, row in self.rows.items() if known.kind == cell.kind]
        own = [row for row in rows if row["molecule"] == cell.molecule]
        same = [row for row in own if row["variant"] == cell.variant]
        return max((float(row["row_seconds"]) for row in same or own or rows), default=otherwise)


def store_of(book: Notebook) -> Store:
    """The rows beside the result file of the table that is measured."""
    return Store(book.rows_file)


def measure_cells(
    book: Notebook, cells: list[Cell], measured: Callable[[Notebook, Cell], Stored], guess_seconds: float
) -> list[Stored]:
    """Measure the cells that are asked for and not stored, storing each at once; returns the rows of all `cells`.

    Stops before a row that would not end before the deadline. A row that fails is stored with the reason. What cannot
    be measured here is noted; raises Skip where nothing is stored and something is lacking.
    """
    store, choice, lacking = store_of(book), book.sizes.choice, {}
    wanted = [cell for cell in cells if choice.takes(cell)]
    todo = [cell for cell in wanted if book.again or not store.has(cell, book.bench.commit)]
    book.tell(f"  {len(wanted) - len(todo)} of {len(wanted)} rows are stored, {len(todo)} to measure")
    for number, cell in enumerate(todo):
        if time.monotonic() + store.expected_seconds(cell, guess_seconds) > choice.deadline:
            book.tell(f"  stopped before {cell.folder}: it would not end in time; {len(todo) - number} rows are left")
            break
        # A reason stops the rows of that molecule only.
        if cell.molecule in lacking:
            continue
        try:
            row = _measured(book, cell, measured)
        except Skip as reason:
            lacking[cell.molecule] = str(reason)
            continue
        store.append(row)
        book.tell(f"  {cell.folder}: {in_words(row)}")
    book.notes += [f"{name}: not measured, {reason}." for name, reason in lacking.items()]
    found = store.of(cells)
    if lacking and not found:
        raise Skip("; ".join(dict.fromkeys(lacking.values())))
    return found


def _measured(book: Notebook, cell: Cell, measured: Callable[[Notebook, Cell], Stored]) -> Stored:
    bench, started, before = book.bench, time.perf_counter(), len(book.bench.commands)
    try:
        found = measured(book, cell)
    except CommandError as error:
        found = {"right": False, "failed": str(error).rpartition(" (")[0], "alarms": []}
    finally:
        if not book.sizes.choice.keep:
            shutil.rmtree(bench.folder / cell.folder, ignore_errors=True)
            bench.forget(cell.folder.replace("/", "."))
    commands, bench.commands = bench.commands[before:], bench.commands[:before]
    return {
        **asdict(cell),
        **found,
        "row_seconds": round(time.perf_counter() - started, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(),
        "commit": bench.commit,
        "commands": commands,
    }


def in_words(row: Stored) -> str:
    """A row in one line."""
    if row.get("failed"):
        return f"failed: {row['failed']}"
    verdict = {True: "right", False: "WRONG", None: "no truth"}[row["right"]]
    ratio = "" if row.get("ratio") is None else f", {row['ratio']:.2f} × oracle"
    alarms = ", ".join(alarm["name"] for alarm in row["alarms"]) or "no alarm"
    return f"{verdict}{ratio}, {alarms}, {row['seconds']:.0f} s, the row {row['row_seconds']:.0f} s"
