"""Progress of a long command: one bar a stage, with the time left."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StageProgress:
    """A bar for each stage in a terminal; elsewhere one line a stage every few seconds."""

    def __init__(self, console: Console, quiet: bool = False):
        self.console, self.quiet = console, quiet
        columns = (
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.bars = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self.tasks: dict[str, TaskID] = {}
        self.last = 0.0

    def __enter__(self) -> "StageProgress":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, stage: str, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` steps of a stage are over."""
        if self.bars.disable:
            if not self.quiet and (done == total or time.monotonic() - self.last > 10):
                self.last = time.monotonic()
                self.console.print(f"{stage}: {done}/{total} {text}", highlight=False, soft_wrap=True)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(stage, total=total, text=text)
        self.bars.update(self.tasks[stage], completed=done, total=total, text=text)
