"""The run directory: nothing is overwritten, nothing is half written, anything can be taken up again."""

import errno
import json
import os
import socket
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
import yaml

from cryoloom.errors import InputError
from cryoloom.solve.run import Run, RunConfig


def leftovers(folder: Path) -> list[Path]:
    """Hidden or temporary files, which no one should ever find."""
    return [path for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]


def test_create_takes_a_new_or_an_empty_directory(tmp_path, config):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "deep"):
        run = Run.create(folder, config)
        assert (run.path / "config.yaml").is_file()
        assert (run.path / "volumes").is_dir()
        assert (run.path / "checkpoints").is_dir()


def test_create_refuses_what_lies_there(tmp_path, config, run):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty"):
        Run.create(full, config)
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match=r"holds a run already.*resume"):
        Run.create(run.path, config)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Run.create(tmp_path / "file", config)


def test_only_a_run_that_computed_nothing_is_withdrawn(tmp_path, config, run):
    empty = Run.create(tmp_path / "empty", config)
    empty.withdraw()
    assert not empty.path.exists()
    run.record(stage="prepare")
    run.withdraw()
    assert (run.path / "metrics.jsonl").is_file()
    assert (run.path / "config.yaml").is_file()


def test_config_comes_back_as_it_was(run, config):
    assert Run.open(run.path).config == config
    written = yaml.safe_load((run.path / "config.yaml").read_text())
    assert set(written) == set(RunConfig.model_fields)
    assert written["seed"] == 7
    assert written["symmetry"] == "C1"


@pytest.mark.parametrize(
    "text", ["seed: [", "seed: seven", "- a list", "", "particles: p.star\nunknown_entry: 1", "\x00binary"]
)
def test_a_broken_config_is_named(run, text):
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"config\.yaml cannot be read as a run's settings"):
        Run.open(run.path)


def test_open_needs_a_run(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match="is no run"):
        Run.open(tmp_path / "absent")


def test_a_file_is_written_whole_or_not_at_all(run):
    run.write_text("notes.txt", "first")

    def fails(path: Path) -> None:
        path.write_text("half of the sec")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with pytest.raises(OSError, match="No space"):
        run.write("notes.txt", fails)
    assert (run.path / "notes.txt").read_text() == "first"
    run.write_text("notes.txt", "second")
    assert (run.path / "notes.txt").read_text() == "second"
    assert leftovers(run.path) == []


def test_a_lock_is_held_and_given_back(run):
    lock = run.path / "lock.json"
    with run.locked():
        held = json.loads(lock.read_text())
        assert (held["pid"], held["host"]) == (os.getpid(), socket.gethostname())
    assert not lock.exists()
    with pytest.raises(RuntimeError), run.locked():
        raise RuntimeError
    assert not lock.exists()


def test_only_the_leading_process_locks(run):
    with run.locked(leads=False):
        assert not (run.path / "lock.json").exists()


def lock_of(run: Run, **changes) -> None:
    parent = psutil.Process().parent()
    entries = {"pid": parent.pid, "host": socket.gethostname(), "started": parent.create_time()}
    (run.path / "lock.json").write_text(json.dumps(entries | changes))


def test_a_live_process_keeps_others_out(run, config):
    lock_of(run)
    with pytest.raises(InputError, match="in use by a live run"), run.locked():
        pass
    assert (run.path / "lock.json").exists()
    with pytest.raises(InputError, match="in use by a live run"):
        Run.create(run.path, config)
    lock_of(run, host="another-machine")
    with pytest.raises(InputError, match="another-machine"), run.locked():
        pass


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"started": 1.0}])
def test_the_lock_of_a_dead_process_is_ignored(run, changes):
    """The process is gone, or its number belongs to another by now."""
    lock_of(run, **changes)
    with run.locked():
        assert json.loads((run.path / "lock.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", '{"pid": 1', "[]", "{}"])
def test_a_torn_lock_is_ignored(run, text):
    (run.path / "lock.json").write_text(text)
    with run.locked():
        pass


def test_metrics_are_lines_with_time_and_memory(run):
    run.record(stage="refine", iteration=1)
    run.record(stage="refine", iteration=2)
    lines = run.metrics()
    assert [line["iteration"] for line in lines] == [1, 2]
    assert 0 <= lines[0]["seconds"] <= lines[1]["seconds"]
    assert lines[0]["memory_gb"] > 0


def test_a_torn_line_of_metrics_is_left_out(run):
    run.record(iteration=1)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2, "losses": {"data": 1}')
    assert [line["iteration"] for line in run.metrics()] == [1]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write("\n")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "losses": {"data": 1}}{"iter}')
    assert [line["iteration"] for line in run.metrics()] == [1]


def test_time_goes_on_where_the_last_session_stopped(run):
    run._before = 100.0
    run.record(iteration=1)
    again = Run.open(run.path)
    assert 100 <= again.seconds < 160


def test_the_newest_two_checkpoints_are_kept(run):
    for step in (1, 2, 9, 10, 11):
        run.save_checkpoint(step, {"step": step})
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["step-10.pt", "step-11.pt"]
    assert run.load_checkpoint()["step"] == 11
    assert leftovers(run.path) == []


def damages(file: Path) -> dict[str, bytes]:
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)
    return {"empty": b"", "cut": whole[: len(whole) // 2], "zeroed": bytes(flipped), "text": b"not a checkpoint\n" * 50}


@pytest.mark.parametrize("damage", ["empty", "cut", "zeroed", "text"])
def test_a_corrupt_checkpoint_falls_back_to_the_one_before(run, damage):
    for step in (1, 2):
        run.record(iteration=step)
        run.save_checkpoint(step, {"step": step, "volume": torch.ones(8, 8, 8) * step})
    newest = run.path / "checkpoints" / "step-2.pt"
    newest.write_bytes(damages(newest)[damage])
    state = Run.open(run.path).load_checkpoint()
    assert state["step"] == 1
    assert torch.equal(state["volume"], torch.ones(8, 8, 8))
    # What was recorded after that checkpoint will be recorded again.
    assert [line["iteration"] for line in run.metrics()] == [1]


def test_metrics_after_the_checkpoint_are_dropped(run):
    run.record(iteration=1)
    run.save_checkpoint(1, {"step": 1})
    run.record(iteration=2)
    run.load_checkpoint()
    assert [line["iteration"] for line in run.metrics()] == [1]


def test_without_a_checkpoint_there_is_nothing_to_load(run):
    assert run.load_checkpoint() is None
    run.save_checkpoint(1, {"step": 1})
    (run.path / "checkpoints" / "step-1.pt").write_bytes(b"")
    assert run.load_checkpoint() is None


def test_checkpoints_load_without_running_code(run):
    class Point(NamedTuple):
        at: torch.Tensor

    run.save_checkpoint(1, {"step": 1, "point": Point(torch.ones(2)), "generator": torch.Generator().get_state()})
    state = torch.load(run.path / "checkpoints" / "step-1.pt", weights_only=True)
    assert state["point"]["at"].tolist() == [1, 1]


def test_a_full_disk_keeps_the_last_checkpoint(run, monkeypatch):
    run.record(iteration=1)
    run.save_checkpoint(1, {"step": 1})

    def full(state, path):
        Path(path).write_bytes(b"PK")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        run.save_checkpoint(2, {"step": 2})
    monkeypatch.undo()
    assert leftovers(run.path) == []
    assert run.load_checkpoint()["step"] == 1


def test_without_a_checkpoint_nothing_counts_as_done(run):
    run.record(iteration=1)
    assert run.load_checkpoint() is None
    assert run.metrics() == []


def test_what_a_killed_session_left_half_written_is_swept_up(run):
    for name in (".4711-step-3.pt", ".volume.mrc.abc.tmp"):
        (run.path / "checkpoints" / name).write_bytes(b"half")
    with run.locked():
        assert leftovers(run.path) == []
