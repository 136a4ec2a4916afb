"""What the scripts that measure one table share: their options, the run, and the page made anew afterwards."""

import argparse
from pathlib import Path

from rich.console import Console

from cryoloom.cli.bench import run_bench
from cryoloom.errors import InputError
from cryoloom.evaluate.bench.catalogue import find_table
from cryoloom.evaluate.bench.page import make_page

ROOT = Path(__file__).resolve().parents[1]


def parser_of(table: str, about: str | None) -> argparse.ArgumentParser:
    """The options that every table has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ", ".join(find_table(table).parts)
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help=f"of {parts}")
    parser.add_argument("--quick", action="store_true", help="tiny data, to try the benchmark itself: no result")
    parser.add_argument("--again", action="store_true", help="repeat what the same code has measured already")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/bench", help="folder of particles and runs, some GB")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder of the public data sets")
    return parser


def measure(table: str, given: argparse.Namespace, changes: dict | None) -> int:
    """Measure with settings changed, write the result file and the page; 2 for the user's mistakes."""
    try:
        run_bench(
            table,
            scale="quick" if given.quick else "mini",
            output=given.output,
            only=tuple(given.only),
            again=given.again,
            work=given.work,
            data=given.data,
            changes=changes,
        )
    except InputError as error:
        Console(stderr=True).print(f"{table}: {error}", markup=False, soft_wrap=True)
        return 2
    if given.output.resolve() == ROOT / "benchmarks/results" and not given.quick:
        (ROOT / "docs/benchmarks.md").write_text(make_page(given.output, ROOT / "docs/images"))
    return 0
