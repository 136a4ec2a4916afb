"""cryoDRGN and cryoloom on the same files: `python benchmarks/vs_cryodrgn.py [--cryodrgn COMMAND] [--only search]`.

cryoDRGN wants an environment of its own (it holds plotly below 7): `python -m venv peers` and
`peers/bin/pip install cryodrgn==4.3.1`, then `--cryodrgn peers/bin/cryodrgn`. Give both the same threads, for two
cores `OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2`. Afterwards docs/benchmarks.md is made anew.
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
TABLE = "vs-cryodrgn"


def main() -> int:
    """Measure, write the result file and the page; 2 for the user's mistakes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cryodrgn", default="cryodrgn", metavar="COMMAND", help="cryoDRGN's command, or its path")
    parts = ", ".join(find_table(TABLE).parts)
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help=f"of {parts}")
    parser.add_argument("--images", type=int, help="images that cryoDRGN searches, from which a pass is reckoned (64)")
    parser.add_argument("--quick", action="store_true", help="tiny data, to try the benchmark itself: no result")
    parser.add_argument("--again", action="store_true", help="repeat what the same code has measured already")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/bench", help="folder of particles and runs")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder of the public data sets")
    given = parser.parse_args()
    path = Path(given.cryodrgn)
    changes = {"cryodrgn": str(path.absolute()) if path.is_file() else given.cryodrgn}
    if given.images:
        changes |= {"searched_old": given.images, "searched_new": given.images}
    try:
        run_bench(
            TABLE,
            scale="quick" if given.quick else "mini",
            output=given.output,
            only=tuple(given.only),
            again=given.again,
            work=given.work,
            data=given.data,
            changes=changes,
        )
    except InputError as error:
        Console(stderr=True).print(f"vs_cryodrgn.py: {error}", markup=False, soft_wrap=True)
        return 2
    if given.output.resolve() == ROOT / "benchmarks/results" and not given.quick:
        (ROOT / "docs/benchmarks.md").write_text(make_page(given.output, ROOT / "docs/images"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
