"""`cryoloom evaluate`: a run against the truth."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from cryoloom.evaluate.truth import evaluate_run

# What each number of evaluation.json means, its unit and its digits.
_MEANING = {
    "rotation_error_median": ("rotation error ‖R−R̂‖²_F, median", "", 4),
    "rotation_error_mean": ("rotation error ‖R−R̂‖²_F, mean", "", 4),
    "rotation_error_deg_median": ("rotation error, median", "°", 2),
    "shift_error_px_median": ("shift error, median", "px", 3),
    "shift_error_px_mean_square": ("shift error, mean square", "px²", 3),
    "resolution_fsc50_angst": ("resolution to the truth, FSC 0.5", "Å", 2),
    "resolution_fsc143_angst": ("resolution to the truth, FSC 0.143", "Å", 2),
    "fsc50_px": ("resolution to the truth, FSC 0.5", "px", 2),
    "oracle_fsc50_angst": ("the same data at the true poses, FSC 0.5", "Å", 2),
    "resolution_over_oracle": ("resolution ÷ the best the data allow", "×", 2),
}


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
    for name, (meaning, unit, digits) in _MEANING.items():
        if name in result:
            table.add_row(meaning, f"{result[name]:.{digits}f}", unit)
    table.add_row("hand", "mirrored" if result["hand_flipped"] else "as the truth", "")
    console = Console()
    console.print(table)
    for name in ("evaluation.json", "fsc_truth.csv", "volumes/aligned_to_truth.mrc"):
        console.print(f"wrote {run / name}", highlight=False)
