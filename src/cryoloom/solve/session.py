"""What a running method needs beside its algorithm: files, randomness, progress, and the state it was stopped in."""

from collections.abc import Callable
from typing import Any

import torch

from cryoloom.solve.run import Run, from_plain
from cryoloom.solve.team import Team

Progress = Callable[[str, int, int, str], None]


class Session:
    """What a stage needs beside its algorithm: the run's files, random generators, the progress shown.

    `generator` is for the steps and is part of every checkpoint, `beginning` for what is drawn before the first step.
    writes: whether the run is to go on; else it is only read.
    """

    def __init__(self, run: Run, team: Team, progress: Progress, writes: bool = True):
        self.run, self.team, self.progress = run, team, progress
        self.generator = torch.Generator().manual_seed(run.config.seed)
        # What is drawn before the first step must be the same when an earlier session has moved `generator` on.
        self.beginning = torch.Generator().manual_seed(2**32 + run.config.seed)
        self.step = 0
        # What later stages leave as it is and every checkpoint holds nevertheless, such as trained networks.
        self._kept: dict[str, Any] = {}
        self.checkpoint = run.load_checkpoint(leads=writes and team.leads)
        if self.checkpoint:
            self.step = self.checkpoint["step"]
            self.generator.set_state(self.checkpoint["generator"])

    def saved(self, stage: str, kind: type, device: torch.device | str | None = None) -> Any:
        """The state of a stage that an earlier session left, on `device` (none: the run's), or None."""
        if self.checkpoint is None or stage not in self.checkpoint["states"]:
            return None
        return from_plain(kind, self.checkpoint["states"][stage], device or self.team.device)

    def keep(self, *names: str) -> None:
        """Hold on to states of the newest checkpoint in all that follow."""
        newest = self.run.load_checkpoint(leads=False)
        assert newest is not None
        self._kept |= {name: newest["states"][name] for name in names}

    def save(self, metrics: dict[str, Any] | None, **states: Any) -> None:
        """Write a checkpoint; where an iteration is done (`metrics`), record its numbers first."""
        self.step += 1
        if self.team.leads:
            if metrics is not None:
                self.run.record(**metrics)
            held = {"step": self.step, "generator": self.generator.get_state(), "states": {**self._kept, **states}}
            self.run.save_checkpoint(self.step, held)
