"""The page of benchmarks is what the committed results say, word for word."""

from pathlib import Path

import pytest

from cryoloom.evaluate.bench.page import make_page, side_by_side
from cryoloom.evaluate.bench.result import BenchResult, PartResult, Picture, Row

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_page_is_made_from_the_committed_results():
    results, page = ROOT / "benchmarks/results", ROOT / "docs/benchmarks.md"
    if not page.is_file():
        pytest.skip("needs a checkout with docs/benchmarks.md")
    assert page.read_text() == make_page(results, ROOT / "docs/images"), "run `python benchmarks/make_page.py`"


def test_page_shows_numbers_goals_origin_and_pictures_that_exist(tmp_path):
    rows = (Row("time", 61.234, "s", must=180, aim=60), Row("seeds", 8, "", must=9, better="higher"), Row("told", 2.0))
    when = {"commit": "abc1234", "seconds": 700.0}
    part = PartResult(
        "adk",
        rows,
        (Picture("there.png", "There."), Picture("absent.png", "Absent.")),
        ("A note.",),
        ("cryoloom simulate",),
        date="2026-03-01T10:00:00Z",
        **when,
    )
    older = PartResult("sta", skipped="no data", date="2026-02-01T10:00:00Z", commit="older")
    machine = {"name": "CPU of 2 cores", "threads": 2, "memory_gb": 8.0}
    (tmp_path / "there.png").touch()
    for scale in ("mini", "quick"):
        BenchResult("main-job", scale, machine, f"bench at {scale}", (part, older)).write(tmp_path)
    page = make_page(tmp_path, tmp_path)
    for line in (
        "| time | 61.2 s | ≤ 180 | ≤ 60 | ✓ |",
        "| seeds | 8 | ≥ 9 |  | ✗ |",
        "| told | 2 |  |  |  |",
        "CPU of 2 cores, 2 threads, 8 GB of memory; 1 March 2026, commit `abc1234`, 12 min in all",
        "Part `sta` is of 1 February 2026, commit `older`.",
        "Not measured: no data.",
        "![There.](images/there.png)",
        "bench at mini",
        "- A note.",
    ):
        assert line in page
    assert "absent.png" not in page
    assert "bench at quick" not in page


def test_page_without_results_says_how_to_get_some(tmp_path):
    assert "make bench" in make_page(tmp_path, tmp_path)


def test_ways_stand_side_by_side():
    rows = [Row("A, one way: error", 0.5, "px"), Row("A, one way: time", 3.0, "s"), Row("A, another: time", 70.0, "s")]
    assert side_by_side(rows) == [
        "| | error | time |",
        "|---|--:|--:|",
        "| A, one way | 0.5 px | 3 s |",
        "| A, another |  | 70 s |",
    ]
