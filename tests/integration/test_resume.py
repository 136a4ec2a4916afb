"""A run that is killed at any moment goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from .conftest import QUICK, command, cryoloom, poses_of, volume_of


def _stop_after(run: Path, arguments: list[object], stage: str, line: int, with_signal: signal.Signals) -> int:
    """Start a reconstruction and stop it once `stage` has recorded `line` iterations; returns the exit code."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        metrics = run / "metrics.jsonl"
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if sum(f'"{stage}"' in text for text in lines) >= line:
            process.send_signal(with_signal)
            break
        time.sleep(0.02)
    process.wait(timeout=60)
    return process.returncode


@pytest.mark.parametrize(("stage", "line"), [("ab initio", 7), ("refine", 2)])
def test_killed_and_resumed_is_undisturbed(phantom_set: Path, finished: Path, tmp_path: Path, stage: str, line: int):
    run = tmp_path / "killed"
    arguments = ["reconstruct", phantom_set / "particles.star", "-o", run, *QUICK]
    assert _stop_after(run, arguments, stage, line, signal.SIGKILL) == -signal.SIGKILL
    cryoloom("resume", run)
    assert torch.equal(volume_of(run), volume_of(finished))
    assert torch.equal(poses_of(run).rotation, poses_of(finished).rotation)
    recorded = [(run_ / "metrics.jsonl").read_text().splitlines() for run_ in (run, finished)]
    assert len(recorded[0]) == len(recorded[1])
    assert json.loads(recorded[0][-1])["resolution_angst"] == json.loads(recorded[1][-1])["resolution_angst"]


def test_ctrl_c_stops_cleanly_and_a_finished_run_says_so(phantom_set: Path, finished: Path, tmp_path: Path):
    run = tmp_path / "interrupted"
    arguments = ["reconstruct", phantom_set / "particles.star", "-o", run, *QUICK]
    assert _stop_after(run, arguments, "ab initio", 3, signal.SIGINT) == 130
    assert not (run / "lock.json").exists()
    assert not list(run.rglob(".*"))
    assert "finished already" in cryoloom("resume", finished)
