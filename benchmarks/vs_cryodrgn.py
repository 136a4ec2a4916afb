"""cryoDRGN and cryoloom on the same files: `python benchmarks/vs_cryodrgn.py [--cryodrgn COMMAND] [--only search]`.

cryoDRGN wants an environment of its own (it holds plotly below 7): `python -m venv peers` and
`peers/bin/pip install cryodrgn==4.3.1`, then `--cryodrgn peers/bin/cryodrgn`. Give both the same threads, for two
cores `OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2`. Afterwards docs/benchmarks.md is made anew.
"""

import sys
from pathlib import Path

from command import measure, parser_of

TABLE = "vs-cryodrgn"


def main() -> int:
    """Measure, write the result file and the page; 2 for the user's mistakes."""
    parser = parser_of(TABLE, __doc__)
    parser.add_argument("--cryodrgn", default="cryodrgn", metavar="COMMAND", help="cryoDRGN's command, or its path")
    parser.add_argument("--images", type=int, help="images that cryoDRGN searches, from which a pass is reckoned (64)")
    given = parser.parse_args()
    path = Path(given.cryodrgn)
    changes = {"cryodrgn": str(path.absolute()) if path.is_file() else given.cryodrgn}
    if given.images:
        changes |= {"searched_old": given.images, "searched_new": given.images}
    return measure(TABLE, given, changes)


if __name__ == "__main__":
    sys.exit(main())
