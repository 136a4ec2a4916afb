"""`cryoloom report`: one page that shows a run."""

from pathlib import Path

from rich.console import Console

from cryoloom.report.html import write_report


def report(run: Path) -> None:
    """Write RUN/report.html: the map, its resolution, the poses and how sure they are, how the run went.

    The page holds everything it needs and opens without a network. It is made from the files of the run alone, so that
    it can be made again at any time, for an unfinished run too.

    Parameters
    ----------
    run
        Folder of a reconstruction, as `cryoloom reconstruct -o RUN` made it.
    """
    Console().print(f"wrote {write_report(run)}", highlight=False)
