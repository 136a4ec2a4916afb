"""`cryoloom evaluate`: a run against the truth."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from cryoloom.evaluate.numbers import in_words
from cryoloom.evaluate.truth import evaluate_run


def evaluate(run: Path, *, truth: Path) -> None:
    """Compare a run with the truth of a simulation: poses, shifts, resolution.

    What no data can tell (one rotation of everything, the hand, one translation) is taken out first. The numbers are
    printed and written to RUN/evaluation.json, the curve to RUN/fsc_truth.csv, the aligned map to
    RUN/volumes/aligned_to_truth.mrc.

    Parameters
    ----------
    run
        Folder of a finished reconstruction, as `cryoloom reconstruct -o RUN` made it.
    truth
        The `truth` folder that `cryoloom simulate` wrote beside the particles.
    """
    result = evaluate_run(run, truth)
    table = Table("", "value", "unit", title=f"{run} against {truth}", title_justify="left")
    table.columns[1].justify = "right"
    for row in in_words(result):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for name in ("evaluation.json", "fsc_truth.csv", "volumes/aligned_to_truth.mrc"):
        console.print(f"wrote {run / name}", highlight=False)
