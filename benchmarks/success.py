"""Fill the success matrix row by row: `python benchmarks/success.py --minutes 50 [--molecule spike] [--quick]`.

Each row is kept in benchmarks/results/success.mini.rows.jsonl as soon as it is measured, and rows that the same code
has measured are not repeated, so that the matrix can be filled over many calls: `--only simulated --molecule hand
--variant plain --snr 0.1 --seed 0` measures one row, `--only real`, `--only relion` those of real sets and of RELION.
How long a row takes is guessed (10 minutes, RELION's 2 hours) until one of its kind is known.
The verdict over all rows that exist is made anew each time, and then docs/benchmarks.md.
"""

import math
import sys
import time

from command import measure, parser_of
from cryoloom.evaluate.bench.success_store import Choice

TABLE = "success"


def main() -> int:
    """Measure, write the result file and the page; 2 for the user's mistakes."""
    parser = parser_of(TABLE, __doc__)
    parser.add_argument("--molecule", nargs="+", default=[], help="of adk-4ake, spike, …, apoferritin")
    parser.add_argument("--variant", nargs="+", default=[], help="of plain, preferred, junk; of real sets O, C1, …")
    parser.add_argument("--snr", nargs="+", type=float, default=[], help="of 0.1, 0.03")
    parser.add_argument("--seed", nargs="+", type=int, default=[], help="of 0 to 4; of the real set to 9")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no row that would not end by then")
    parser.add_argument("--keep", action="store_true", help="leave particles, runs and maps in the work folder")
    given = parser.parse_args()
    choice = Choice(
        tuple(given.molecule),
        tuple(given.variant),
        tuple(given.snr),
        tuple(given.seed),
        deadline=time.monotonic() + 60 * given.minutes,
        keep=given.keep,
    )
    if given.only:
        given.only += [part for part in ("verdict", "calibration") if part not in given.only]
    return measure(TABLE, given, {"choice": choice})


if __name__ == "__main__":
    sys.exit(main())
