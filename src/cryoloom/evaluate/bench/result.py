"""What a benchmark leaves behind: rows of numbers beside what they must reach, in one JSON file a table and scale."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from cryoloom.data.files import replacing
from cryoloom.errors import InputError

Better = Literal["lower", "higher"]


def goal(must: float, aim: float, better: str = "higher") -> dict[str, Any]:
    """What a row must reach and aims at, as entries of `Row`."""
    return {"must": must, "aim": aim, "better": better}


@dataclass(frozen=True)
class Row:
    """One number: value in `unit`, what it must reach and what it aims at (None: only told), and which way is better.

    A peer's number is a row too, with the peer in its name. A value that could not be measured is NaN: it reaches
    nothing.
    """

    name: str
    value: float
    unit: str = ""
    must: float | None = None
    aim: float | None = None
    better: Better = "lower"

    @property
    def ok(self) -> bool | None:
        """Whether the value reaches `must`; None where nothing is asked."""
        return None if self.must is None else self._reaches(self.must)

    @property
    def reaches_aim(self) -> bool:
        """Whether the value reaches `aim`; False where there is none."""
        return self.aim is not None and self._reaches(self.aim)

    def _reaches(self, goal: float) -> bool:
        return self.value <= goal if self.better == "lower" else self.value >= goal

    def plain(self) -> dict[str, Any]:
        """For JSON: name, value, unit, must, aim, better, ok; six figures are kept."""
        value = float(f"{self.value:.6g}") if math.isfinite(self.value) else None
        return {**asdict(self), "value": value, "ok": self.ok}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Row":
        """The inverse of `plain`."""
        value = math.nan if plain["value"] is None else float(plain["value"])
        return cls(plain["name"], value, plain["unit"], plain["must"], plain["aim"], plain["better"])


@dataclass(frozen=True)
class Picture:
    """A figure of a benchmark: file name in the folder of pictures, and one sentence below it."""

    file: str
    caption: str


@dataclass(frozen=True)
class PartResult:
    """A part of a table that was measured at once: its rows, pictures, notes, and the reason where it was skipped.

    commands: what was run. date, commit, seconds: of this part, since parts can be measured on different days.
    """

    name: str
    rows: tuple[Row, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    skipped: str = ""
    date: str = ""
    commit: str = ""
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """For JSON; the rows by name only, since they stand in the result's own list."""
        rest = {name: value for name, value in asdict(self).items() if name != "rows"}
        return {**rest, "rows": [row.name for row in self.rows]}

    @classmethod
    def of(cls, plain: dict[str, Any], rows: Iterator[Row]) -> "PartResult":
        """The inverse of `plain`; rows: the result's own, of which its parts take theirs in order."""
        own = tuple(islice(rows, len(plain["rows"])))
        if [row.name for row in own] != plain["rows"]:
            raise ValueError(f"its rows are not in the order of its parts, at {plain['name']}")
        return cls(
            name=plain["name"],
            rows=own,
            pictures=tuple(Picture(**picture) for picture in plain["pictures"]),
            notes=tuple(plain["notes"]),
            commands=tuple(plain["commands"]),
            skipped=plain["skipped"],
            date=plain["date"],
            commit=plain["commit"],
            seconds=plain["seconds"],
        )


@dataclass(frozen=True)
class BenchResult:
    """A table at one scale, as the JSON file holds it; machine: name, threads, memory."""

    table: str
    scale: str
    machine: dict[str, Any]
    command: str
    parts: tuple[PartResult, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """The rows of all parts."""
        return [row for part in self.parts for row in part.rows]

    @property
    def latest(self) -> PartResult:
        """The part that was measured last."""
        return max(self.parts, key=lambda part: part.date)

    def with_part(self, part: PartResult, order: tuple[str, ...]) -> "BenchResult":
        """The same result with a part added or replaced, in the table's order of parts."""
        parts = {old.name: old for old in self.parts} | {part.name: part}
        kept = tuple(parts[name] for name in order if name in parts)
        return BenchResult(self.table, self.scale, self.machine, self.command, kept)

    def plain(self) -> dict[str, Any]:
        """For JSON: table, scale, machine, date, commit, command, seconds, rows, and the parts they came from."""
        return {
            "table": self.table,
            "scale": self.scale,
            "machine": self.machine,
            "date": self.latest.date,
            "commit": self.latest.commit,
            "command": self.command,
            "seconds": round(sum(part.seconds for part in self.parts), 1),
            "rows": [row.plain() for row in self.rows],
            "parts": [part.plain() for part in self.parts],
        }

    def write(self, folder: Path) -> Path:
        """Write folder/TABLE.SCALE.json in one step."""
        path = result_path(folder, self.table, self.scale)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.plain(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return path


def result_path(folder: Path, table: str, scale: str) -> Path:
    """Where the result of a table lies."""
    return Path(folder) / f"{table}.{scale}.json"


def read_result(path: Path) -> BenchResult:
    """A result that `BenchResult.write` wrote. Raises InputError for any other file."""
    try:
        plain = json.loads(Path(path).read_text())
        rows = map(Row.of, plain["rows"])
        parts = tuple(PartResult.of(part, rows) for part in plain["parts"])
        return BenchResult(plain["table"], plain["scale"], plain["machine"], plain["command"], parts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no benchmark result ({error}): remove it and measure again.") from error
