"""What a run directory holds, read for a report: whatever is missing or unreadable is left out."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from cryoloom.data import Particles, read_particles, read_volume
from cryoloom.data.files import reading
from cryoloom.errors import InputError
from cryoloom.evaluate.landscape import Landscape, read_landscape
from cryoloom.solve.run import SKIPPED

# What to do about a file of a run that is damaged.
_PUT_BACK = "put the run's own file back, or run it again"


@dataclass(frozen=True)
class RunContents:
    """The files of a run, parsed. volume: (D, D, D), None without a map; pixel_size: Å; metrics: one row a line.

    flexible: maps (D, D, D) of what moves that the run itself left, by name. skipped: images that it left out.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    alarms: list[dict[str, str]] = field(default_factory=list)
    particles: Particles | None = None
    volume: NDArray | None = None
    pixel_size: float = 1.0
    fsc: pd.DataFrame = field(default_factory=pd.DataFrame)
    fsc_truth: pd.DataFrame = field(default_factory=pd.DataFrame)
    evaluation: dict[str, Any] = field(default_factory=dict)
    landscape: Landscape | None = None
    flexible: dict[str, NDArray] = field(default_factory=dict)
    skipped: pd.DataFrame = field(default_factory=pd.DataFrame)

    def column(self, name: str) -> NDArray | None:
        """A numeric particle column (N,); None if it is absent or says nothing."""
        if self.particles is None or name not in self.particles.table:
            return None
        column = pd.Series(self.particles.table[name])
        if not pd.api.types.is_numeric_dtype(column):
            return None
        values = np.asarray(column, dtype=float)
        return values if np.isfinite(values).any() else None

    @property
    def field_angst(self) -> float:
        """Width of the box in Å, from the FSC table or the map; NaN when neither is there."""
        for table in (self.fsc, self.fsc_truth):
            rows = table.query("shell > 0") if len(table) else table
            if len(rows):
                return float(rows["shell"].iloc[0]) * float(rows["resolution_angst"].iloc[0])
        return self.volume.shape[0] * self.pixel_size if self.volume is not None else math.nan


def read_run(folder: Path | str) -> RunContents:
    """Everything of a run directory that a report shows; raises InputError if `folder` holds none of it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a run, as `cryoloom reconstruct -o RUN` makes it.")
    config_text = _text(folder / "config.yaml")
    metrics, noted = _metrics(folder / "metrics.jsonl")
    map_path = folder / "volumes" / "volume.mrc"
    if not config_text and metrics.empty and not map_path.is_file() and not (folder / "particles.star").is_file():
        raise InputError(
            f"{folder}: not a run; expected config.yaml, metrics.jsonl, particles.star or volumes/volume.mrc in it."
        )
    volume, pixel_size = read_volume(map_path) if map_path.is_file() else (None, 1.0)
    with reading(folder / "config.yaml", "file of settings", _PUT_BACK):
        config = yaml.safe_load(config_text) if config_text else {}
    if config_text:
        noted += _unfinished(folder, metrics)
    landscape = read_landscape(folder)
    if landscape is not None:
        noted += landscape.summary["warnings"]
    return RunContents(
        folder=folder,
        config=config if isinstance(config, dict) else {},
        config_text=config_text,
        metrics=metrics,
        alarms=_alarms(folder / "alarms.json", noted),
        particles=_particles(folder / "particles.star"),
        volume=None if volume is None else volume.numpy(),
        pixel_size=pixel_size,
        fsc=_curves(folder / "fsc.csv"),
        fsc_truth=_curves(folder / "fsc_truth.csv"),
        evaluation=_json(folder / "evaluation.json", {}),
        landscape=landscape,
        flexible=_flexible(folder / "volumes"),
        skipped=_skipped(folder / SKIPPED),
    )


def _unfinished(folder: Path, metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """The alarm of a run that has no results yet: where it stands, and how it goes on."""
    stages = metrics["stage"].tolist() if "stage" in metrics else []
    if "results" in stages:
        return []
    place = "before its first step"
    if stages:
        done = metrics["iteration"].iloc[-1] if "iteration" in metrics else math.nan
        place = f"in the stage {stages[-1]}" + (f", iteration {int(done)}" if math.isfinite(done) else "")
    message = f"The run is not finished: it stopped {place}. What is shown is not its result."
    advice = f"Continue it with `cryoloom resume {folder}`."
    return [{"name": "unfinished", "severity": "warning", "message": message, "advice": advice}]


def _flexible(volumes: Path) -> dict[str, NDArray]:
    """flexibility.mrc, then attention_00.mrc and so on, where they are."""
    paths = [*volumes.glob("flexibility.mrc"), *sorted(volumes.glob("attention_*.mrc"))]
    return {path.stem: read_volume(path)[0].numpy() for path in paths}


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _json(path: Path, empty: Any) -> Any:
    text = _text(path)
    with reading(path, f"{type(empty).__name__} in JSON", _PUT_BACK):
        found = json.loads(text) if text.strip() else empty
        if not isinstance(found, type(empty)):
            raise ValueError(f"it holds {type(found).__name__}")
    return found


def _particles(path: Path) -> Particles | None:
    return read_particles(path) if path.is_file() else None


def _skipped(path: Path) -> pd.DataFrame:
    return _table(path)


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame()
    with reading(path, "CSV table", _PUT_BACK):
        return pd.read_csv(path)


def _curves(path: Path) -> pd.DataFrame:
    table = _table(path)
    return table if {"shell", "resolution_angst"} <= set(table.columns) else pd.DataFrame()


def _metrics(path: Path) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Rows of metrics.jsonl, and the alarms among its lines."""
    rows, alarms = [], []
    for line in _text(path).splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last line of a run that is being written, or was cut
        if isinstance(row, dict) and ("alarm" in row or "severity" in row):
            alarms.append(row)
        elif isinstance(row, dict):
            rows.append(row)
    return pd.DataFrame(rows), alarms


def _alarms(path: Path, noted: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Alarms as {name, severity, message, advice}, each once, of alarms.json and of metrics.jsonl."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for alarm in [*_json(path, []), *noted]:
        inner = alarm.get("alarm")
        source = inner if isinstance(inner, dict) else alarm
        name = source.get("name") or (inner if isinstance(inner, str) else "alarm")
        fields = {key: str(source.get(key) or "") for key in ("severity", "message", "advice")}
        found[(str(name), fields["message"])] = {"name": str(name), **fields}
    return list(found.values())
