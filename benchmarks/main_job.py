"""Reprint the numbers of the main job: `python benchmarks/main_job.py [--seeds 10] [--only adk flat] [--quick]`.

The same as `cryoloom bench main-job`, with options for trying it out; then docs/benchmarks.md is made anew.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from cryoloom.cli.bench import run_bench
from cryoloom.errors import InputError
from cryoloom.evaluate.bench.page import make_page
from cryoloom.evaluate.bench.tables import find_table

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Measure, write the result file and the page; 2 for the user's mistakes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = list(find_table("main-job").parts)
    parser.add_argument("--seeds", type=int, help="seeds of the adk part (10)")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help=f"of {', '.join(parts)}")
    parser.add_argument("--quick", action="store_true", help="tiny data, to try the benchmark itself: no result")
    parser.add_argument("--again", action="store_true", help="repeat what the same code has measured already")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/bench", help="folder of particles and runs, some GB")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder of the public data sets")
    given = parser.parse_args()
    try:
        run_bench(
            "main-job",
            scale="quick" if given.quick else "mini",
            output=given.output,
            only=tuple(given.only),
            again=given.again,
            work=given.work,
            data=given.data,
            changes={"seeds": given.seeds} if given.seeds else None,
        )
    except InputError as error:
        Console(stderr=True).print(f"main_job.py: {error}", markup=False, soft_wrap=True)
        return 2
    if given.output.resolve() == ROOT / "benchmarks/results" and not given.quick:
        (ROOT / "docs/benchmarks.md").write_text(make_page(given.output, ROOT / "docs/images"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
