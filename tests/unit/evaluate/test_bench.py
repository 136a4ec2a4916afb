"""Benchmarks: the result file, the loop over parts, measuring a process, pictures; nothing here is timed."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from cryoloom.cli.bench import bench, images_folder
from cryoloom.errors import InputError
from cryoloom.evaluate.bench.catalogue import find_table
from cryoloom.evaluate.bench.measure import CommandError, Workbench, measure
from cryoloom.evaluate.bench.pictures import level_of_volume, moving_picture, surface_picture
from cryoloom.evaluate.bench.result import BenchResult, PartResult, Picture, Row, read_result
from cryoloom.evaluate.bench.tables import Notebook, Order, Skip, Table, in_words, measure_table, number
from cryoloom.evaluate.maps import surface_level

ROW_FIELDS = {"name", "value", "unit", "must", "aim", "better", "ok"}
FILE_FIELDS = {"table", "scale", "machine", "date", "commit", "command", "seconds", "rows"}


def order_of(table: Table, folder: Path, **more) -> Order:
    return Order(table, "mini", folder, folder / "work", folder / "data", folder / "images", "cryoloom bench x", **more)


def table_of(**parts) -> Table:
    return Table("try", "A try", "About it.", parts, {"mini": None})


@pytest.mark.parametrize(
    ("row", "ok", "aim"),
    [
        (Row("time", 100.0, "s", must=180, aim=60), True, False),
        (Row("time", 200.0, "s", must=180, aim=60), False, False),
        (Row("time", 60.0, "s", must=180, aim=60), True, True),
        (Row("seeds", 9.0, "", must=9, aim=10, better="higher"), True, False),
        (Row("seeds", 8.0, "", must=9, aim=10, better="higher"), False, False),
        (Row("told", 3.0), None, False),
        (Row("lost", math.nan, "s", must=180), False, False),
    ],
)
def test_rows_know_what_they_reach(row, ok, aim):
    assert (row.ok, row.reaches_aim) == (ok, aim)
    plain = row.plain()
    assert set(plain) == ROW_FIELDS
    assert plain["ok"] is ok
    assert repr(Row.of(json.loads(json.dumps(plain, allow_nan=False)))) == repr(row)


def test_result_file_has_the_promised_entries_and_reads_back(tmp_path):
    part = PartResult(
        "a",
        (Row("time", 1.5, "s", must=2),),
        (Picture("a.png", "An a."),),
        ("A note.",),
        ("cryoloom a",),
        date="2026-01-02T03:04:05Z",
        commit="abc",
        seconds=2.5,
    )
    result = BenchResult("try", "mini", {"name": "CPU", "threads": 2, "memory_gb": 8.0}, "cryoloom bench try", (part,))
    path = result.write(tmp_path)
    assert path == tmp_path / "try.mini.json"
    assert list(tmp_path.iterdir()) == [path]
    plain = json.loads(path.read_text())
    assert set(plain) >= FILE_FIELDS
    assert (plain["date"], plain["commit"], plain["seconds"]) == (part.date, "abc", 2.5)
    assert read_result(path) == result
    path.write_text("{}")
    with pytest.raises(InputError, match=r"try\.mini\.json is no benchmark result"):
        read_result(path)


def test_parts_keep_their_own_rows_where_these_have_one_name(tmp_path):
    parts = tuple(PartResult(name, (Row("time", value),)) for name, value in (("a", 1.0), ("b", 2.0)))
    path = BenchResult("try", "mini", {}, "cryoloom bench try", parts).write(tmp_path)
    assert read_result(path).parts == parts
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | {"rows": plain["rows"][1:]}))
    with pytest.raises(InputError, match="not in the order of its parts, at b"):
        read_result(path)


def test_parts_are_written_as_they_are_measured_and_kept_for_the_same_code(tmp_path):
    calls, said = [], []

    def first(book: Notebook) -> None:
        calls.append("first")
        book.row("one", 1.0, "s", must=2.0)

    def second(book: Notebook) -> None:
        calls.append("second")
        assert read_result(tmp_path / "try.mini.json").rows[:1] == [Row("one", 1.0, "s", must=2.0)]
        book.row("two", 2.0)

    table = table_of(first=first, second=second)
    for _ in range(2):
        measure_table(order_of(table, tmp_path), lambda: "abc", lambda: "abc", said.append)
    assert calls == ["first", "second"]
    assert [row.name for row in read_result(tmp_path / "try.mini.json").rows] == ["one", "two"]
    measure_table(order_of(table, tmp_path, only=("second",), again=True), lambda: "abc", lambda: "abc", said.append)
    measure_table(order_of(table, tmp_path, only=("first",)), lambda: "def", lambda: "def", said.append)
    assert calls == ["first", "second", "second", "first"]
    result = read_result(tmp_path / "try.mini.json")
    assert [part.commit for part in result.parts] == ["def", "abc"]
    assert "  one: 1 s  (must 2)  ok" in said


def test_parts_of_changed_files_are_measured_again(tmp_path):
    calls = []
    table = table_of(only=lambda book: calls.append(book.row("one", 1.0)))
    for _ in range(2):
        measure_table(order_of(table, tmp_path), lambda: "abc+", lambda: "abc+", lambda _: None)
    assert len(calls) == 2
    commits = iter(["abc", "def"])
    result = measure_table(order_of(table, tmp_path), lambda: next(commits), lambda: "abc", lambda _: None)
    assert result.parts[0].commit == "abc+"


def test_a_part_that_cannot_be_measured_says_why_and_the_others_go_on(tmp_path):
    def absent(book: Notebook) -> None:
        book.data("maps/none.mrc")

    def broken(book: Notebook) -> None:
        raise CommandError(f"exit 1: no luck ({book.bench.folder}/logs/x.txt)")

    table = table_of(absent=absent, broken=broken, fine=lambda book: book.row("one", 1.0))
    result = measure_table(order_of(table, tmp_path), lambda: "abc", lambda: "abc", lambda _: None)
    assert [part.skipped for part in result.parts] == [
        "maps/none.mrc is not among the data sets of this machine",
        "exit 1: no luck (logs/x.txt)",
        "",
    ]
    assert len(result.rows) == 1


def test_unknown_names_are_refused_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match="no benchmark 'table9': choose one of main-job"):
        bench("table9", output=tmp_path)
    with pytest.raises(InputError, match="no scale 'paper'"):
        bench("main-job", scale="paper", output=tmp_path)
    with pytest.raises(InputError, match="no part 'nothing': choose from adk, flat, sta, betagal, demo"):
        bench("main-job", only=("nothing",), output=tmp_path)
    with pytest.raises(InputError, match="--data"):
        bench("main-job", data=tmp_path / "absent", output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_main_job_without_data_is_skipped_with_reasons(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench("main-job", only=("adk", "sta", "betagal"), output=Path("results"), data=tmp_path)
    result = read_result(Path("results/main-job.mini.json"))
    assert all("is not among the data sets" in part.skipped for part in result.parts)
    assert [part.name for part in result.parts] == ["adk", "sta", "betagal"]


def test_memory_and_failure_of_a_process_are_seen(tmp_path):
    code = "import time; block = bytearray(200_000_000); time.sleep(0.4)"
    found = measure([sys.executable, "-c", code], tmp_path, tmp_path / "log.txt")
    assert found.seconds > 0.4
    assert 0.2 < found.memory_gb < 0.4
    assert 0.2 < found.own_memory_gb <= found.memory_gb + 1e-3
    with pytest.raises(CommandError, match="exit 3: first / last"):
        measure([sys.executable, "-c", "print('first\\nlast'); raise SystemExit(3)"], tmp_path, tmp_path / "log.txt")


def test_a_run_of_the_same_code_is_not_repeated(tmp_path, monkeypatch):
    maker = [sys.executable, "-c", "import sys, pathlib; pathlib.Path(sys.argv[2]).mkdir(); print(sys.argv)"]
    monkeypatch.setattr("cryoloom.evaluate.bench.measure.cryoloom_command", lambda: maker)
    (tmp_path / "work").mkdir()
    bench = Workbench(tmp_path / "work", tmp_path / "data", "abc")
    first = bench.cryoloom("out", tmp_path / "data/x.star", "out")
    assert bench.commands == ["cryoloom DATA/x.star out"]
    assert bench.cryoloom("out", tmp_path / "data/x.star", "out") == first
    assert Workbench(bench.folder, bench.data, "def").cryoloom("out", tmp_path / "data/x.star", "out") != first
    bench.forget("o")
    assert not list(bench.folder.glob("*.measured.json"))


def test_numbers_and_rows_in_words():
    assert [number(v) for v in (None, math.nan, 0.0017, 1.0349, 62.34, 180, 5000.4)] == [
        "–", "–", "0.0017", "1.03", "62.3", "180", "5,000",
    ]  # fmt: skip
    assert in_words(Row("t", 70.0, "s", must=60)) == "t: 70 s  (must 60)  NOT REACHED"
    assert find_table("main-job").parts.keys() >= {"adk", "flat", "sta", "betagal"}
    assert issubclass(Skip, Exception)


def test_pictures_go_to_the_docs_of_a_checkout_only(tmp_path):
    assert images_folder(tmp_path / "benchmarks/results") == tmp_path / "docs/images"
    assert images_folder(tmp_path / "mine") == tmp_path / "mine/images"


def test_a_ball_is_drawn_as_a_lit_disc():
    axis = np.arange(24) - 12
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = 1 / (1 + np.exp(np.sqrt(z**2 + y**2 + x**2) - 7))
    level = surface_level(ball)
    assert 0.2 < level < 0.8
    assert (ball >= level_of_volume(ball, 500)).sum() >= 500
    picture = surface_picture(ball, 0.5, (0.0, 0.0), size=48)
    assert picture.shape == (48, 48, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    disc = (picture < 1).any(-1)
    assert abs(disc.sum() - np.pi * 14**2) < 0.1 * np.pi * 14**2
    moving = np.where(x > 0, 1.0, 0.0)
    red, blue = (surface_picture(ball, 0.5, (0.0, 0.0), 48, moving)[24, column] for column in (32, 16))
    assert red[0] > red[2]
    assert blue[0] < blue[2]
    # Lit from above: y points upwards.
    assert picture[14].mean(0)[0] > 0
    assert picture[disc.any(1).argmax() + 3, 24, 2] > picture[48 - disc.any(1)[::-1].argmax() - 4, 24, 2]


def test_maps_are_drawn_with_what_moves(tmp_path):
    pytest.importorskip("matplotlib")
    ball = np.zeros((16, 16, 16))
    ball[5:11, 5:11, 5:11] = 1 + np.arange(6) / 6
    moving = np.broadcast_to(np.arange(16.0), ball.shape)
    assert moving_picture(tmp_path / "m.png", {"found": (ball, moving), "truth": (ball, moving)}).stat().st_size > 1000
