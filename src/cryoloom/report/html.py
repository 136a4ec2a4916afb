"""The report of a run: one HTML page that holds its figures and opens offline."""

import json
import math
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from plotly.offline import get_plotlyjs

from cryoloom import __version__
from cryoloom.data.files import replacing
from cryoloom.evaluate.fsc import FSCCurve
from cryoloom.evaluate.numbers import in_words
from cryoloom.report import figures
from cryoloom.report.conformations import conformations, flexible_regions
from cryoloom.report.contents import RunContents, read_run
from cryoloom.report.halves import halves
from cryoloom.report.images import images, size_in_words, working_images
from cryoloom.report.movies import movies
from cryoloom.report.page import MARKUP, SCRIPT, Page

# Columns of metrics.jsonl in the order in which people ask for them; others follow, bookkeeping is left out.
_FIRST = ("resolution_angst", "band", "log_likelihood", "loss", "rotation_change_deg", "images_per_s", "memory_gb")
_BOOKKEEPING = {"iteration", "epoch", "step", "time", "timestamp", "seed", "batch"}
_CURVE_NAMES = {
    "fsc": "masked, corrected",
    "fsc_masked": "masked",
    "fsc_unmasked": "unmasked",
    "fsc_phase_randomised": "phases randomised",
    "fsc_chance": "noise alone",
}


def write_report(run: Path | str) -> Path:
    """Write run/report.html from the files in `run` and return its path; raises InputError if it is not a run."""
    contents = read_run(run)
    page = Page()
    first = (_map, _resolution, halves, _evaluation, conformations, movies, flexible_regions)
    for section in (*first, _orientations, _uncertainty, _progress, images, _configuration):
        section(contents, page)
    style = files("cryoloom.report").joinpath("style.css").read_text()
    # A tag inside a string would end the script, or a comment begin there.
    plots = json.dumps(page.plots, separators=(",", ":")).replace("<", "\\u003c")
    html = Template(MARKUP).substitute(
        title=escape(_title(contents)),
        subtitle=escape(_subtitle(contents)),
        style=style,
        numbers=_numbers(contents),
        alarms=_alarm_list(contents),
        sections="\n".join(page.sections),
        version=escape(__version__),
        plotly=f"<script>{get_plotlyjs()}</script>" if page.plots else "",
        script=f"<script>const plots = {plots};\n{SCRIPT}</script>" if page.plots else "",
    )
    path = contents.folder / "report.html"
    with replacing(path) as part:
        part.write_text(html, encoding="utf-8")
    return path


def _title(run: RunContents) -> str:
    return run.folder.resolve().name


def _subtitle(run: RunContents) -> str:
    parts = [f"system {run.config['system']}" if "system" in run.config else ""]
    particles = working_images(run)
    if particles is not None:
        parts.append(f"images of {size_in_words(particles)}")
    symmetry = run.config.get("symmetry")
    parts.append(f"symmetry {symmetry}" if symmetry else "")
    return " · ".join(part for part in parts if part)


def _numbers(run: RunContents) -> str:
    """The headline numbers: label, value, unit."""
    items: list[tuple[str, str, str]] = []
    resolution = _run_resolution(run)
    if resolution is not None:
        items.append((resolution[1], f"{resolution[0]:.1f}", "Å"))
    if run.particles is not None:
        items.append(("particles", f"{len(run.particles):,}", ""))
    for column, label, unit in (
        ("rotation_sigma_deg", "rotation uncertainty, median", "°"),
        ("shift_sigma_angst", "shift uncertainty, median", "Å"),
    ):
        values = run.column(column)
        if values is not None:
            items.append((label, f"{np.nanmedian(values):.2f}", unit))
    if "seconds" in run.metrics:
        items.append(("time", *_duration(_total_seconds(run))))
    serious = sum(alarm["severity"] not in ("info", "note") for alarm in run.alarms)
    colour = "warn" if serious else "good"
    cells = [f"<div><dt>{escape(a)}</dt><dd>{escape(b)}{_unit(c)}</dd></div>" for a, b, c in items]
    cells.append(f'<div><dt>alarms</dt><dd class="{colour}">{serious or "none"}</dd></div>')
    return f'<dl class="numbers">{"".join(cells)}</dl>'


def _unit(unit: str) -> str:
    return f"<small>{'' if unit == '°' else ' '}{escape(unit)}</small>" if unit else ""


def _total_seconds(run: RunContents) -> float:
    """Time of the run: `seconds` is either the clock, which grows within the run, or the time of each step."""
    seconds = run.metrics["seconds"].dropna().to_numpy(dtype=float)
    clock = len(seconds) > 1 and bool((np.diff(seconds) >= 0).all())
    return float(seconds[-1] if clock else seconds.sum()) if len(seconds) else 0.0


def _duration(seconds: float) -> tuple[str, str]:
    if seconds < 90:
        return f"{seconds:.0f}", "s"
    if seconds < 5400:
        return f"{seconds / 60:.1f}", "min"
    return f"{seconds / 3600:.1f}", "h"


def _run_resolution(run: RunContents) -> tuple[float, str] | None:
    """Resolution in Å and what it is: between half maps, else to the truth, else the last that the run wrote down."""
    if len(run.fsc) > 1 and "fsc" in run.fsc:
        box = 2 * len(run.fsc)
        fsc, *chance = (
            torch.tensor(run.fsc[name].to_numpy(float)) for name in ("fsc", "fsc_chance") if name in run.fsc
        )
        curve = FSCCurve(fsc, box, run.field_angst / box, *chance)
        return curve.resolution(0.143), "resolution, FSC 0.143"
    if "resolution_fsc50_angst" in run.evaluation:
        return float(run.evaluation["resolution_fsc50_angst"]), "resolution to the truth, FSC 0.5"
    if "resolution_angst" in run.metrics:
        last = run.metrics["resolution_angst"].dropna()
        if len(last):
            return float(last.iloc[-1]), "resolution, last step"
    return None


def _alarm_list(run: RunContents) -> str:
    items = []
    for alarm in run.alarms:
        advice = f" <span>{escape(alarm['advice'])}</span>" if alarm["advice"] else ""
        title = escape(alarm["name"].replace("_", " ").capitalize())
        kind = escape(alarm["severity"] or "warning", quote=True)
        items.append(f'<li class="{kind}"><strong>{title}</strong>{escape(alarm["message"])}{advice}</li>')
    return f'<ul class="alarms" id="alarms">{"".join(items)}</ul>' if items else ""


def _map(run: RunContents, page: Page) -> None:
    if run.volume is None or not np.ptp(run.volume) > 0:
        return
    rows = [
        '<div class="planes">'
        + "".join(
            f'<figure><img src="{uri}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
            for caption, uri in views
        )
        + "</div>"
        for views in figures.map_images(run.volume).values()
    ]
    planes = f"<h3>Slices through the centre</h3>{rows[0]}<h3>Projections</h3>{rows[1]}"
    surface = page.plot("surface", figures.surface_figure(run.volume, run.pixel_size))
    lead = "Drag to turn the surface, scroll to zoom. Slices and projections run along the axes of the map."
    body = f'<div class="row map"><div class="card">{surface}</div><div class="card">{planes}</div></div>'
    page.section("map", "Map", lead, body)


def _resolution(run: RunContents, page: Page) -> None:
    curves = {
        label: (run.fsc["shell"].to_numpy(float), run.fsc[name].to_numpy(float))
        for name, label in _CURVE_NAMES.items()
        if name in run.fsc
    }
    if "fsc" in run.fsc_truth:
        curves["to the truth"] = (run.fsc_truth["shell"].to_numpy(float), run.fsc_truth["fsc"].to_numpy(float))
    if not curves or not math.isfinite(run.field_angst):
        return
    lead = (
        "Fourier shell correlation: between half maps the resolution is read at 0.143, against a known truth at 0.5. "
        "Where phases were randomised any correlation left is the mask's own."
    )
    plot = page.plot("fsc-plot", figures.fsc_figure(curves, run.field_angst))
    page.section("fsc", "Resolution", lead, f'<div class="card">{plot}</div>')


def _evaluation(run: RunContents, page: Page) -> None:
    rows = "".join(
        f"<tr><td>{escape(text)}</td><td>{escape(f'{value} {unit}')}</td></tr>"
        for text, value, unit in in_words(run.evaluation)
    )
    if not rows:
        return
    lead = "After one global rotation, hand and translation, which no data can tell, were taken out."
    page.section("evaluation", "Against the truth", lead, f'<div class="card"><table>{rows}</table></div>')


def _orientations(run: RunContents, page: Page) -> None:
    if run.particles is None or run.particles.rotation is None or len(run.particles) == 0:
        return
    rotation = np.asarray(run.particles.rotation, dtype=float)
    psi = np.rad2deg(np.arctan2(rotation[:, 1, 2], -rotation[:, 0, 2]))
    views = page.plot("views", figures.orientation_figure(rotation))
    inplane = page.plot(
        "inplane", figures.histogram_figure(psi, "in-plane angle (°)", figures.PALETTE[4], median=False, height=300)
    )
    lead = (
        "From where the molecule was seen: directions in the frame of the map as an equal-area (Mollweide) projection, "
        "poles at top and bottom. Bright spots on a dark ground mean preferred orientation."
    )
    body = f'<div class="row two"><div class="card">{views}</div><div class="card">{inplane}</div></div>'
    page.section("orientations", "Orientations", lead, body)


def _uncertainty(run: RunContents, page: Page) -> None:
    cards = []
    for i, (column, label) in enumerate(
        (
            ("rotation_sigma_deg", "rotation uncertainty (°)"),
            ("shift_sigma_angst", "shift uncertainty (Å)"),
            ("max_posterior", "probability of the best pose"),
        )
    ):
        values = run.column(column)
        if values is not None:
            plot = page.plot(column.replace("_", "-"), figures.histogram_figure(values, label, figures.PALETTE[i]))
            cards.append(f'<div class="card">{plot}</div>')
    if cards:
        lead = "How sure each particle's pose is, from its posterior. A second hump far out is worth selecting away."
        page.section("uncertainty", "Pose uncertainty", lead, f'<div class="row three">{"".join(cards)}</div>')


def _progress(run: RunContents, page: Page) -> None:
    metrics = run.metrics
    if "stage" in metrics:
        # What has a section of its own is no step of the run.
        metrics = metrics[~metrics["stage"].isin(("images", "half-sets compared"))]
    if metrics.empty:
        return
    numeric = metrics.select_dtypes("number")
    names = [n for n in _FIRST if n in numeric]
    names += sorted(set(numeric) - set(names) - _BOOKKEEPING - {"seconds"})
    columns = {n: numeric[n].to_numpy(dtype=float) for n in names}
    columns = {n: v for n, v in columns.items() if np.isfinite(v).any()}
    if not columns:
        return
    stages: Any = metrics.get("stage")
    stage_names = list(stages.fillna("").astype(str)) if stages is not None else ["run"] * len(metrics)
    plot = page.plot("progress-plot", figures.progress_figure(columns, stage_names))
    page.section("progress", "Progress", "Over the steps of the run, by stage.", f'<div class="card">{plot}</div>')


def _configuration(run: RunContents, page: Page) -> None:
    if not run.config_text:
        return
    command = run.config.get("command")
    command = " ".join(map(str, command)) if isinstance(command, list) else command
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    body = f"{shown}<details><summary>config.yaml</summary><pre>{escape(run.config_text)}</pre></details>"
    page.section("configuration", "How it was made", "", body)
