"""Fills pages on poses: what the code says of a search's cost, and what benchmarks measured."""

import re
from pathlib import Path
from typing import Any

import torch

from cryoloom.evaluate.bench.page import side_by_side, table_of_rows
from cryoloom.evaluate.bench.pose_search import EXTENT_PX, PAPER_GRID, BaseCost
from cryoloom.evaluate.bench.result import read_result, result_path
from cryoloom.model.poses.search import PoseSearch
from cryoloom.model.poses.shifts import ShiftBasis
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import point_group

ROOT = Path(__file__).resolve().parents[1]
_BOX = 80


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for every page."""
    up = "../" * page.file.src_uri.count("/")
    fillers = {"rank": _rank, "levels": _levels, "base": _base}
    markdown = re.sub(r"^<!-- engine (\w+) -->$", lambda m: fillers[m[1]](), markdown, flags=re.M)
    return re.sub(
        r"^<!-- (measured|compared) ([\w-]+)(?: ([\w-]+))? -->$",
        lambda m: _measured(*m.groups(), up),
        markdown,
        flags=re.M,
    )


def _search() -> PoseSearch:
    """The search of Table 1: box 80, ±10 px."""
    return PoseSearch(PAPER_GRID, FrequencyLattice.of_box(_BOX), point_group("C1"), EXTENT_PX)


def _costs() -> list[BaseCost]:
    """What one image costs at each level, the base grid first."""
    search, costs = _search(), []
    for level, band in enumerate(search.bands):
        lattice, shifts = search.lattice.prefix(band), search.shifts(level)
        rotations = len(search.grid) if level == 0 else 8 * PAPER_GRID.candidates
        functions = len(ShiftBasis.of_shifts(shifts, lattice).functions)
        costs.append(BaseCost(len(lattice), rotations, len(shifts), functions))
    return costs


def _levels() -> str:
    search = _search()
    head = (
        "spacing",
        "band",
        "shift step, px",
        "coefficients P",
        "rotations an image",
        "shifts S",
        "functions r",
        "10⁶ operations an image",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "--:|" * len(head)]
    for level, (band, cost) in enumerate(zip(search.bands, _costs(), strict=True)):
        step = 2 * EXTENT_PX / search.points / 2**level
        cells = (
            f"{search.grid.spacing_deg / 2**level:.3g}°",
            f"{band:.1f}",
            f"{step:.2f}",
            f"{cost.coefficients:,}",
            f"{cost.rotations:,}",
            f"{cost.shifts}",
            f"{cost.functions}",
            f"{cost.operations / 1e6:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _base() -> str:
    c = _costs()[0]
    product, mixing = 4 * c.functions * c.rotations * c.coefficients, 2 * c.shifts * c.functions * c.rotations
    rows = (
        ("product with the shift functions, 2 · r · G · 2P", f"{product / 1e6:.0f} · 10⁶ operations"),
        ("mixing them into shifts, 2 · S · r · G", f"{mixing / 1e6:.0f} · 10⁶ operations"),
        ("power term, 2 · G · P", f"{(c.operations - product - mixing) / 1e6:.1f} · 10⁶ operations"),
        ("**all**", f"**{c.operations / 1e6:.0f} · 10⁶ operations**"),
        ("with every shift in the product, 2 · S · G · 2P", f"{c.plain_operations / 1e6:.0f} · 10⁶ operations"),
        ("poses compared, S · G", f"{c.shifts * c.rotations:,}"),
        ("operations a pose", f"{c.operations / (c.shifts * c.rotations):.0f}"),
        ("templates, shared by all images, bf16", f"{4 * c.coefficients * c.rotations / 1e6:.1f} MB"),
        ("products and scores made and looked at once, bf16", f"{2 * c.values / 1e6:.1f} MB"),
        ("kept of them", f"{PAPER_GRID.candidates} rotations with their shifts"),
    )
    return "\n".join(["| an image on the base grid | |", "|---|--:|", *(f"| {a} | {b} |" for a, b in rows)])


def _rank() -> str:
    """A drawing of the number of shift functions against the band, for the square of shifts of Table 1."""
    search = _search()
    shifts, most = search.shifts(0), _BOX // 2
    bands = torch.linspace(2, most, 20).tolist()
    ranks = [len(ShiftBasis.of_shifts(shifts, search.lattice.prefix(band)).functions) for band in bands]
    top = len(shifts)

    def x(band: float) -> float:
        return round(46 + 460 * band / most, 1)

    def y(rank: float) -> float:
        return round(190 - 170 * rank / top, 1)

    curve = " ".join(f"{x(band)},{y(rank)}" for band, rank in zip(bands, ranks, strict=True))
    first = x(PAPER_GRID.first_band)
    parts = [
        f'<polyline points="{x(0)},{y(top)} {x(0)},{y(0)} {x(most)},{y(0)}"/>',
        f'<line x1="{x(0)}" y1="{y(top)}" x2="{x(most)}" y2="{y(top)}" stroke-dasharray="6 4"/>',
        f'<line x1="{first}" y1="{y(0)}" x2="{first}" y2="{y(top)}" stroke-dasharray="2 4"/>',
        f'<polyline points="{curve}" stroke="#0f9d8a" stroke-width="2.5"/>',
        *(_words(x(band), 206, str(band)) for band in range(0, most + 1, 10)),
        *(_words(40, y(rank) + 4, str(rank), "end") for rank in (0, 50, 100, 150, top)),
        _words(x(most / 2), 222, "band, Fourier pixels"),
        _words(x(0), 12, f"functions r; dashed: {top} shifts; dotted: the first band", "start"),
    ]
    style = 'fill="none" stroke="currentColor" font-size="11" style="max-width: 34rem"'
    return f'<svg viewBox="0 0 520 228" role="img" {style}>{"".join(parts)}</svg>'


def _words(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor" stroke="none">{text}</text>'


def _measured(form: str, table: str, part: str | None, up: str) -> str:
    """Rows and pictures of a table, or of one part of it; up: from the page's folder to that of all pages.

    form: measured, a line a number; compared, a line for all numbers of one thing.
    """
    path = result_path(ROOT / "benchmarks/results", table, "mini")
    parts = read_result(path).parts if path.is_file() else ()
    parts = [found for found in parts if found.rows and part in (None, found.name)]
    if not parts:
        return f"Not measured yet: `cryoloom bench {table}` does."
    pictures = [
        f"![{picture.caption}]({up}images/{picture.file})\n\n*{picture.caption}*"
        for found in parts
        for picture in found.pictures
        if (ROOT / "docs/images" / picture.file).is_file()
    ]
    rows = [row for found in parts for row in found.rows]
    lines = side_by_side(rows) if form == "compared" else table_of_rows(rows)
    return "\n\n".join(["\n".join(lines), *pictures])
