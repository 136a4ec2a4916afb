"""Section of the report on the images of a run: their size, the pixels that were replaced, what was left out."""

from html import escape
from typing import Any

from cryoloom.data.particles import Particles
from cryoloom.report.contents import RunContents
from cryoloom.report.page import Page

# Images left out that are listed on the page: the run's skipped.csv has all.
SHOWN = 20


def working_images(run: RunContents) -> Particles | None:
    """The run's particles at the box that it worked on, whereas its particles.star has the box on disk."""
    box = run.config.get("box")
    return run.particles.with_box(int(box)) if run.particles is not None and box else run.particles


def size_in_words(particles: Particles) -> str:
    """Box and pixel size of particles as they were worked with, and on disk where these differ."""
    size = f"{particles.box} px of {particles.pixel_size:.4g} Å"
    if particles.box == particles.source_box:
        return size
    return f"{size} (cropped from {particles.source_box} px of {particles.source_pixel_size:.4g} Å)"


def images(run: RunContents, page: Page) -> None:
    """What was done to the images before anything else; nothing of a run without a record of it."""
    facts = run.metrics[run.metrics["stage"] == "images"] if "stage" in run.metrics else run.metrics.head(0)
    if facts.empty and run.skipped.empty:
        return
    lines = []
    particles = working_images(run)
    if particles is not None:
        lines.append(f"{len(particles):,} images, {size_in_words(particles)}.")
    if len(facts):
        last: Any = facts.iloc[-1]
        of_images, n, pixels = (int(last[name]) for name in ("outlier_images", "particles", "outlier_pixels"))
        where = f"in {of_images:,} of {n:,} images, {pixels:,} in all" if pixels else f"in none of {n:,} images"
        lines.append(f"Outlier pixels (hot or dead) replaced {where}.")
    if len(run.skipped):
        lines.append(f"{len(run.skipped):,} images cannot be used and were left out (skipped.csv).")
    body = "".join(f"<p>{escape(line)}</p>" for line in lines) + _table(run)
    page.section("images", "Images", "", f'<div class="card">{body}</div>')


def _table(run: RunContents) -> str:
    if run.skipped.empty:
        return ""
    first = run.skipped.head(SHOWN)
    head = "".join(f"<th>{escape(str(name))}</th>" for name in first.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(str(value))}</td>' for value in row)}</tr>"
        for row in first.itertuples(index=False)
    )
    more = f"<p>and {len(run.skipped) - SHOWN:,} more</p>" if len(run.skipped) > SHOWN else ""
    return f"<table><tr>{head}</tr>{rows}</table>{more}"
