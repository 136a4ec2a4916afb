"""Fig. 3 of cryoAI: what had been spent when a resolution was reached, from runs that were made elsewhere."""

import math

import pytest

from cryoloom.evaluate.bench import cryoai_figures
from cryoloom.evaluate.bench.cryoai_figures import _Watched
from cryoloom.evaluate.bench.cryoai_runs import Sizes
from cryoloom.evaluate.bench.measure import Measured, Workbench
from cryoloom.evaluate.bench.runs import Evaluated
from cryoloom.evaluate.bench.tables import Notebook

RUN = Evaluated(Measured(100, 1, 1), {"rotation_error_median": 0.001}, [])


def test_a_resolution_is_reached_between_two_passes():
    found = _Watched(RUN, [10, 20, 40], [5, 3, 2])
    assert (found.time, found.passes) == (pytest.approx(27), pytest.approx(2.35))
    again = _Watched(RUN, [10, 20, 30], [2.6, 3, 2])
    assert (again.time, again.passes) == (10, 1)
    assert math.isnan(_Watched(RUN, [10, 20], [5, 3]).time)


def test_sets_are_compared_seed_by_seed(tmp_path, monkeypatch):
    asked = []

    def watched(book: Notebook, n: int, seed: int) -> _Watched:
        # Each seed finds the machine twice as slow as the one before.
        asked.append((n, seed))
        slow = 2**seed * (1.1 if n == 900 else 1)
        return _Watched(RUN, [10 * slow, 20 * slow], [3, 2])

    monkeypatch.setattr(cryoai_figures, "_watched", watched)
    book = Notebook(Workbench(tmp_path, tmp_path, "x"), Sizes(300, many=900), tmp_path, lambda _: None)
    cryoai_figures.fig3(book)
    assert asked == [(300, 0), (900, 0), (300, 1), (900, 1), (300, 2), (900, 2)]
    rows = {row.name: row.value for row in book.rows}
    assert rows["Time to 2.65 px, 900 images over 300, median of seeds"] == pytest.approx(1.1)
    assert rows["Passes to 2.65 px, 900 images over 300, median of seeds"] == pytest.approx(1)
    assert (tmp_path / "cryoai_fig3.png").is_file()
