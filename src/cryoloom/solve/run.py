"""The run directory: settings, metrics, checkpoints and results of one reconstruction, safe against interruptions."""

import dataclasses
import json
import math
import os
import re
import shutil
import socket
import time
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import yaml
from pydantic import BaseModel, ValidationError
from torch import Tensor

import cryoloom
from cryoloom.data import Particles, read_particles
from cryoloom.data.files import reading
from cryoloom.errors import InputError

CHECKPOINTS_KEPT = 2
SKIPPED = "skipped.csv"


class RunConfig(BaseModel, extra="forbid"):
    """Everything needed to repeat a run; written to config.yaml with the defaults spelled out."""

    particles: Path
    system: str = "loom"
    settings: dict[str, Any] = {}
    poses: Path | Literal["known"] | None = None
    refine: bool = False
    symmetry: str = "C1"
    init: Path | None = None
    datadir: Path | None = None
    ctf: Path | None = None
    ind: Path | None = None
    by_position: bool = False
    pixel_size: float | None = None
    box: int | None = None
    limit: int | None = None
    half_set: Literal[1, 2] | None = None
    skip_bad_images: bool = False
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    command: str = ""
    version: str = cryoloom.__version__
    fingerprint: str = ""


def read_source(config: RunConfig, **more: Any) -> Particles:
    """The particles that a run was told to use, as `read_particles` gives them; more: its other options."""
    return read_particles(
        config.particles,
        datadir=config.datadir,
        ctf=config.ctf,
        ind=config.ind,
        limit=config.limit,
        half_set=config.half_set,
        pixel_size=config.pixel_size,
        by_position=config.by_position,
        symmetry=config.symmetry,
        **more,
    )


class Run:
    """An open run directory. One process writes it; a lock keeps a second run out."""

    def __init__(self, path: Path, config: RunConfig):
        self.path, self.config = path, config
        self._before = 0.0
        self._opened = time.monotonic()

    @classmethod
    def create(cls, path: Path, config: RunConfig, skipped: str | None = None) -> "Run":
        """A new run in an absent or empty directory; skipped: text of skipped.csv, the images that it leaves out.

        Raises InputError where something lies there already.
        """
        path = Path(path)
        if path.is_file():
            raise InputError(f"{path} is a file: -o takes a directory for the run.")
        if (path / "config.yaml").exists():
            _refuse_if_live(path)
            raise InputError(
                f"{path} holds a run already: `cryoloom resume {path}` continues it, or choose another -o."
            )
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"{path} is not empty: choose a new directory with -o, so that nothing is overwritten.")
        path.mkdir(parents=True, exist_ok=True)
        for part in ("volumes", "checkpoints"):
            (path / part).mkdir(exist_ok=True)
        run = cls(path, config)
        if skipped is not None:
            # Before config.yaml, without which this is no run: one that can be resumed has its list.
            run.write_text(SKIPPED, skipped)
        run.write_text("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        return run

    @classmethod
    def open(cls, path: Path) -> "Run":
        """A run that exists. Raises InputError where there is none or its config.yaml does not fit."""
        file = Path(path) / "config.yaml"
        if not file.is_file():
            raise InputError(f"{path} is no run: it has no config.yaml; give the directory that `reconstruct -o` made.")
        try:
            config = RunConfig(**yaml.safe_load(file.read_text()))
        except (ValidationError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{file} cannot be read as a run's settings: {_first_line(error)}.") from error
        run = cls(Path(path), config)
        run._before = max((_number(m.get("seconds")) for m in run.metrics()), default=0.0)
        return run

    def withdraw(self) -> None:
        """Remove a run that has computed nothing, so that its directory can be given again; leave any other alone."""
        made = [path for path in self.path.rglob("*") if path.is_file() and path.name not in ("config.yaml", SKIPPED)]
        if not made:
            shutil.rmtree(self.path)

    @contextmanager
    def locked(self, leads: bool = True) -> Iterator[None]:
        """Hold the run directory for the leading process; raises InputError where a live process holds it."""
        if not leads:
            yield
            return
        _refuse_if_live(self.path)
        lock = self.path / "lock.json"
        self._sweep()
        started = psutil.Process().create_time()
        self.write_text("lock.json", json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": started}))
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what a killed session had not finished writing."""
        for pattern in (".[0-9]*-*", ".*.tmp"):
            for path in self.path.rglob(pattern):
                path.unlink(missing_ok=True)

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far, earlier sessions included."""
        return self._before + time.monotonic() - self._opened

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file atomically."""
        return self.write(name, lambda temporary: temporary.write_text(text))

    def write(self, name: str, writer: typing.Callable[[Path], Any]) -> Path:
        """Write a file under a temporary name by `writer`, then rename it."""
        target = self.path / name
        temporary = target.with_name(f".{os.getpid()}-{target.name}")
        try:
            writer(temporary)
            # After a power cut a renamed file could be empty if its content had not reached the disk.
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def record(self, **metrics: Any) -> None:
        """Append one line to metrics.jsonl, with the time and the memory."""
        metrics |= {"seconds": round(self.seconds, 3), "memory_gb": round(psutil.Process().memory_info().rss / 1e9, 3)}
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a line cut short by a crash is left out."""
        file = self.path / "metrics.jsonl"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return [entry for entry in map(_entry, lines) if entry]

    def alarms(self) -> list[dict[str, str]]:
        """The alarms of a finished run: name, severity, message and advice of each."""
        file = self.path / "alarms.json"
        with reading(file, "list of alarms", "put the run's own file back"):
            found = json.loads(file.read_text())
            return [{key: str(alarm[key]) for key in ("name", "severity", "message", "advice")} for alarm in found]

    @property
    def finished(self) -> bool:
        """Whether results and report were written; a report asked for on the way does not count."""
        done = any(line.get("stage") == "results" for line in self.metrics())
        return done and (self.path / "report.html").is_file()

    def save_checkpoint(self, step: int, state: dict[str, Any]) -> None:
        """Write checkpoints/step-N.pt atomically and remove all but the newest two."""
        folder = self.path / "checkpoints"
        state = {**state, "metrics_lines": len(self.metrics())}
        self.write(f"checkpoints/step-{step}.pt", lambda path: torch.save(to_plain(state), path))
        for old in _checkpoints(folder)[:-CHECKPOINTS_KEPT]:
            old.unlink()

    def load_checkpoint(self, leads: bool = True) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, None without one; the leader drops metrics written after it."""
        for file in reversed(_checkpoints(self.path / "checkpoints")):
            state = _read_checkpoint(file)
            if state is not None:
                break
        else:
            state = None
        # A finished run is only read: its results were recorded after the last checkpoint.
        if leads and not self.finished:
            self._keep_metrics(state["metrics_lines"] if state else 0)
        return state

    def _keep_metrics(self, n: int) -> None:
        if (self.path / "metrics.jsonl").exists():
            self.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in self.metrics()[:n]))


def _entry(text: str) -> dict[str, Any]:
    """The JSON object in a text, empty for anything else, such as a line cut short."""
    try:
        entry = json.loads(text)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _refuse_if_live(path: Path) -> None:
    lock = path / "lock.json"
    holder = _entry(lock.read_text(errors="replace")) if lock.exists() else {}
    if not {"pid", "host", "started"} <= set(holder):
        return
    # Processes of another machine cannot be looked up: they count as live.
    if holder["host"] != socket.gethostname() or _is_live(holder["pid"], holder["started"]):
        where = f"process {holder['pid']} on {holder['host']}"
        raise InputError(
            f"{path} is in use by a live run ({where}): wait for it, stop it, or remove {lock} if it is gone."
        )


def _is_live(pid: int, started: float) -> bool:
    """Whether the process `pid` lives and is the one that began at `started`, not a later one of the same number."""
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1
    except (psutil.Error, ValueError, TypeError, OverflowError):
        return False


def _read_checkpoint(file: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, None where a crash or the disk damaged it."""
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
    except Exception:
        # Damage has no end of kinds, and an older checkpoint serves as well.
        return None
    return state if isinstance(state, dict) and "metrics_lines" in state else None


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first; other files there are none of ours."""
    named = {path: re.fullmatch(r"step-(\d{1,18})", path.stem) for path in folder.glob("step-*.pt")}
    return sorted((path for path, name in named.items() if name), key=lambda path: int(path.stem[5:]))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0]


def to_plain(value: Any) -> Any:
    """Dataclasses, named tuples and tuples as dictionaries and lists of tensors and numbers: no pickled classes."""
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    names = getattr(value, "_fields", None)
    if isinstance(value, tuple) and names is not None:
        return {name: to_plain(part) for name, part in zip(names, value, strict=True)}
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: to_plain(part) for key, part in value.items()}
    return value


def from_plain(kind: Any, value: Any, device: torch.device | str = "cpu") -> Any:
    """The inverse of `to_plain` for a value of type `kind`."""
    origin = typing.get_origin(kind)
    if kind is Tensor:
        return value.to(device)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return value
        return from_plain(next(a for a in typing.get_args(kind) if a is not type(None)), value, device)
    if origin is tuple:
        kinds = typing.get_args(kind)
        kinds = [kinds[0]] * len(value) if len(kinds) == 2 and kinds[1] is Ellipsis else kinds
        return tuple(from_plain(k, v, device) for k, v in zip(kinds, value, strict=True))
    names = getattr(kind, "_fields", None) or getattr(kind, "__dataclass_fields__", ())
    if names:
        hints = typing.get_type_hints(kind)
        return kind(**{name: from_plain(hints[name], value[name], device) for name in names})
    return value
