"""Section of the report on the half-sets: whether each found its own map, and whether it was the same one."""

from html import escape
from typing import Any

from cryoloom.report.contents import RunContents
from cryoloom.report.page import Page


def halves(run: RunContents, page: Page) -> None:
    """How the maps of the two half-sets were found and compared; nothing of a run that began at known poses."""
    found = run.metrics[run.metrics["stage"] == "half-sets compared"] if "stage" in run.metrics else run.metrics.head(0)
    if found.empty:
        return
    body = "".join(f"<p>{escape(line)}</p>" for line in in_words(found.iloc[-1]))
    page.section("halves", "Half-sets", "", f'<div class="card">{body}</div>')


def in_words(compared: Any) -> list[str]:
    """Sentences about a line of metrics.jsonl of the stage "half-sets compared"."""
    starts = f"{int(compared['starts'])} random start{'s' if compared['starts'] > 1 else ''}"
    if compared["independent"]:
        lines = [f"Each half-set made its own map from nothing, of {starts}. They share no particle and no first map."]
    else:
        lines = [
            f"The set is too small for two independent maps: both were made from all particles, of {starts}. Their "
            "agreement tests the search and not the data."
        ]
    words = "They are the same molecule" if compared["confirmed"] else "They are not the same"
    lines.append(f"{words}: mean FSC {compared['agreement']:.2f} over the finer half of their band, round part aside.")
    return lines
