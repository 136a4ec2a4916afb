"""Reprint the numbers of the main job: `python benchmarks/main_job.py [--seeds 10] [--only adk flat] [--quick]`.

The same as `cryoloom bench main-job`, with options for trying it out; then docs/benchmarks.md is made anew.
"""

import sys

from command import measure, parser_of

TABLE = "main-job"


def main() -> int:
    """Measure, write the result file and the page; 2 for the user's mistakes."""
    parser = parser_of(TABLE, __doc__)
    parser.add_argument("--seeds", type=int, help="seeds of the adk part (10)")
    given = parser.parse_args()
    return measure(TABLE, given, {"seeds": given.seeds} if given.seeds else None)


if __name__ == "__main__":
    sys.exit(main())
