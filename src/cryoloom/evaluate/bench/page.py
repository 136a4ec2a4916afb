"""The page of benchmarks, made from the result files alone."""

from datetime import datetime
from pathlib import Path

from cryoloom.evaluate.bench.catalogue import tables
from cryoloom.evaluate.bench.result import BenchResult, PartResult, Row, read_result
from cryoloom.evaluate.bench.tables import number

_HEAD = """# Benchmarks

Results of `cryoloom bench`, made into this page by `benchmarks/make_page.py`: nothing on it is typed by hand.
*must* is what a release has to reach, *aim* what we would like; where neither is given the number is only told.
"""
_NOTHING = "\nNo results yet: `make bench` measures them.\n"
_VERDICT = {None: "", True: "✓", False: "✗"}


def make_page(results: Path, images: Path) -> str:
    """The Markdown of all results in the folder `results`; pictures are linked where they exist in `images`.

    Results of a quick scale are left out.
    """
    found = [read_result(path) for path in sorted(Path(results).glob("*.json"))]
    shown = [result for result in found if result.scale != "quick" and result.parts]
    return _HEAD + ("".join(_section(result, Path(images)) for result in shown) or _NOTHING)


def _section(result: BenchResult, images: Path) -> str:
    known = tables().get(result.table)
    title = known.title if known else result.table
    lines = ["", f"## {title}", ""]
    if known:
        lines += [known.about, ""]
    apart = known.side_by_side if known else ()
    rows = [row for part in result.parts if part.name not in apart for row in part.rows]
    if rows:
        lines += [*table_of_rows(rows), ""]
    lines += _origin(result)
    for part in result.parts:
        lines += _part(part, images, part.name in apart)
    return "\n".join(lines).rstrip() + "\n"


def table_of_rows(rows: list[Row]) -> list[str]:
    """Lines of the Markdown table of rows."""
    return ["| what | value | must | aim | |", "|---|--:|--:|--:|:-:|", *map(_line, rows)]


def side_by_side(rows: list[Row]) -> list[str]:
    """Lines of a Markdown table of rows named WHAT: NUMBER, one line a WHAT and one column a NUMBER."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        what, _, name = row.name.rpartition(": ")
        cells.setdefault(what, {})[name] = f"{number(row.value)} {row.unit}".rstrip()
    names = list(dict.fromkeys(name for line in cells.values() for name in line))
    head = [f"| | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    return head + [f"| {what} | {' | '.join(line.get(n, '') for n in names)} |" for what, line in cells.items()]


def _line(row: Row) -> str:
    sign = "≤" if row.better == "lower" else "≥"
    goals = [f"{sign} {number(goal)}" if goal is not None else "" for goal in (row.must, row.aim)]
    mark = _VERDICT[row.ok] + (" aim" if row.reaches_aim else "")
    name = row.name.replace("|", "\\|")
    return f"| {name} | {number(row.value)} {row.unit}".rstrip() + f" | {goals[0]} | {goals[1]} | {mark.strip()} |"


def _origin(result: BenchResult) -> list[str]:
    machine = result.machine
    where = f"{machine['name']}, {machine['threads']} threads, {machine['memory_gb']:g} GB of memory"
    latest = result.latest
    total = _duration(sum(part.seconds for part in result.parts))
    when = f"{_day(latest.date)}, commit `{latest.commit}`, {total} in all"
    lines = [
        f"Scale `{result.scale}`. Measured on {where}; {when}, with",
        "",
        "```bash",
        result.command,
        "```",
    ]
    older = [part for part in result.parts if part.commit != latest.commit]
    lines += [""] if older else []
    lines += [f"Part `{part.name}` is of {_day(part.date)}, commit `{part.commit}`." for part in older]
    return [*lines, ""]


def _part(part: PartResult, images: Path, apart: bool) -> list[str]:
    lines = [f"### {part.name}", ""]
    if part.skipped:
        lines += [f"Not measured: {part.skipped}.", ""]
    if apart and part.rows:
        lines += [*side_by_side(list(part.rows)), ""]
    for picture in part.pictures:
        if (images / picture.file).is_file():
            lines += [f"![{picture.caption}](images/{picture.file})", "", f"*{picture.caption}*", ""]
    lines += [line for note in part.notes for line in (f"- {note}",)]
    lines += [""] if part.notes else []
    if part.commands:
        lines += ["```bash", *part.commands, "```", ""]
    return lines


def _day(date: str) -> str:
    return datetime.fromisoformat(date).strftime("%d %B %Y").lstrip("0")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
