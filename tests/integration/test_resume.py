"""A run that is stopped at any moment goes on as if nothing had happened."""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from cryoloom.solve.run import Run

from .conftest import QUICK, cryoloom, elsewhere, particles_of, poses_of, volume_of

# Stop at the n-th checkpoint, when its numbers are recorded and it is not yet written: the worst moment.
STOP = """
import os, signal
from cryoloom.solve.run import Run
save = Run.save_checkpoint
# A test run in a shell's background inherits an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
def stop(run, step, state):
    if step == {step}:
        os.kill(os.getpid(), signal.{name})
    save(run, step, state)
Run.save_checkpoint = stop
"""


def undisturbed(run: Path, finished: Path) -> None:
    """Maps, poses, uncertainties and records of both runs are the same, to the bit."""
    for name in ("volume", "half_1", "half_2"):
        assert torch.equal(volume_of(run, name), volume_of(finished, name))
    assert torch.equal(poses_of(run).rotation, poses_of(finished).rotation)
    assert torch.equal(poses_of(run).shift, poses_of(finished).shift)
    tables = [particles_of(folder).table for folder in (run, finished)]
    assert tables[0]["rotation_sigma_deg"].equals(tables[1]["rotation_sigma_deg"])
    lines = [[without_clock(line) for line in Run.open(folder).metrics()] for folder in (run, finished)]
    assert lines[0] == lines[1]
    assert not list(run.rglob(".*"))
    assert not (run / "lock.json").exists()


def without_clock(line: dict) -> dict:
    return {name: value for name, value in line.items() if name not in ("seconds", "memory_gb")}


# A search of 30 iterations of ab initio and 4 of the march, and one more checkpoint with the map it ended with.
SEARCH = 30 + 4 + 1
MOMENTS = {
    "ab initio of half 1": 7,
    "end of half 1": SEARCH,
    "ab initio of half 2": SEARCH + 6,
    "march of half 2": SEARCH + 30 + 2,
    "end of half 2": 2 * SEARCH,
    "before the first refinement": 2 * SEARCH + 1,
    "refine": 2 * SEARCH + 2,
}


def lines_at(step: int) -> int:
    """Lines of metrics.jsonl as checkpoint `step` is written: one each, but none at the end of a search, and one for
    the comparison of the half-sets."""
    return step - step // SEARCH + (step > 2 * SEARCH)


@pytest.mark.parametrize("step", MOMENTS.values(), ids=MOMENTS)
def test_killed_and_resumed_is_undisturbed(step: int, phantom_set: Path, finished: Path, tmp_path: Path):
    run, before = tmp_path / "run", STOP.format(step=step, name="SIGKILL")
    done = elsewhere("reconstruct", phantom_set / "particles.star", "-o", run, *QUICK, before=before)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (run / "lock.json").exists()
    lines = Run.open(run).metrics()
    assert len(lines) == lines_at(step)
    assert lines[-1]["stage"] == Run.open(finished).metrics()[len(lines) - 1]["stage"]
    assert not Run.open(run).finished
    cryoloom("resume", run)
    undisturbed(run, finished)


def test_ctrl_c_stops_cleanly_and_can_be_resumed(phantom_set: Path, finished: Path, tmp_path: Path):
    run, before = tmp_path / "run", STOP.format(step=4, name="SIGINT")
    done = elsewhere("reconstruct", phantom_set / "particles.star", "-o", run, *QUICK, before=before)
    assert done.returncode == 130
    assert "cryoloom resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / "lock.json").exists()
    cryoloom("resume", run)
    undisturbed(run, finished)


def test_a_full_disk_is_said_and_can_be_resumed(
    phantom_set: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write, run = Run.write, tmp_path / "run"

    def full(self: Run, name: str, writer) -> Path:
        if name == "checkpoints/step-6.pt":
            (self.path / "checkpoints" / f".{os.getpid()}-step-6.pt").write_bytes(b"PK")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / name))
        return write(self, name, writer)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write", full)
        said = cryoloom("reconstruct", phantom_set / "particles.star", "-o", run, *QUICK, code=2)
    assert "No space left" in said
    assert "cryoloom resume" in said
    assert "fault of ours" not in said
    cryoloom("resume", run)
    undisturbed(run, finished)


@pytest.fixture(scope="module")
def refined(phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed refinement of the true poses."""
    run = tmp_path_factory.mktemp("refined") / "run"
    cryoloom("reconstruct", phantom_set / "particles.star", "-o", run, *_refinement(phantom_set))
    return run


def _refinement(phantom_set: Path) -> tuple[object, ...]:
    given = ("--poses", phantom_set / "truth/particles.star", "--refine", "--device", "cpu")
    return (*given, "--refinement.iterations", 4, "--refinement.still-degrees", 1e-6)


def test_refinement_of_given_poses_can_be_resumed(
    phantom_set: Path, refined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save, run = Run.save_checkpoint, tmp_path / "run"

    def stop(self: Run, step: int, state: dict) -> None:
        save(self, step, state)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_checkpoint", stop)
        cryoloom("reconstruct", phantom_set / "particles.star", "-o", run, *_refinement(phantom_set), code=130)
    cryoloom("resume", run)
    undisturbed(run, refined)


def test_a_damaged_checkpoint_costs_one_step(refined: Path, tmp_path: Path):
    run = shutil.copytree(refined, tmp_path / "run")
    newest = max((run / "checkpoints").iterdir(), key=lambda file: int(file.stem.split("-")[1]))
    newest.write_bytes(newest.read_bytes()[:1000])
    (run / "report.html").unlink()
    (run / "volumes" / "volume.mrc").unlink()
    cryoloom("resume", run)
    undisturbed(run, refined)


def test_a_finished_run_says_so(finished: Path):
    report = (finished / "report.html").stat().st_mtime_ns
    assert "finished already" in cryoloom("resume", finished)
    assert (finished / "report.html").stat().st_mtime_ns == report
