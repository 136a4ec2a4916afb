"""A reconstruction measured and held against its truth, as most tables need it."""

import json
from dataclasses import dataclass
from typing import Any

from cryoloom.evaluate.bench.measure import Measured
from cryoloom.evaluate.bench.tables import Notebook


@dataclass(frozen=True)
class Evaluated:
    """A run's wall time and memory, its evaluation.json and the lines of its metrics.jsonl."""

    measured: Measured
    evaluation: dict[str, Any]
    metrics: list[dict[str, Any]]

    def number(self, name: str) -> float:
        """A number of evaluation.json."""
        return float(self.evaluation[name])

    def column(self, name: str) -> list[float]:
        """A number of all lines of metrics.jsonl that have it."""
        return [float(line[name]) for line in self.metrics if name in line]


def seeded(run: str, seed: int) -> str:
    """The name of a run with a seed; that of seed 0 has none."""
    return f"{run}-{seed}" if seed else run


def reconstructed(book: Notebook, particles: str, run: str, system: str, *options: object) -> Measured:
    """Reconstruct particles with a system on the device of the scale."""
    device = "cpu" if book.sizes.device == "cpu" else "auto"
    given = ("--system", system, "--device", device, *options)
    return book.bench.cryoloom(run, "reconstruct", particles, "-o", run, *given)


def evaluated_run(book: Notebook, data: str, run: str, system: str, *options: object, truth: bool = False) -> Evaluated:
    """Reconstruct DATA/particles.star with a system and compare it with DATA/truth; `truth`: its poses are given."""
    bench = book.bench
    particles = f"{data}/truth/particles.star" if truth else f"{data}/particles.star"
    measured = reconstructed(book, particles, run, system, *options)
    bench.cryoloom(f"{run}/evaluation.json", "evaluate", run, "--truth", f"{data}/truth")
    folder = bench.folder / run
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    return Evaluated(measured, evaluation, [json.loads(line) for line in lines])
