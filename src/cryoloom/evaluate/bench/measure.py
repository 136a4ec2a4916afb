"""A command run in a process of its own, its wall time and the most memory that it and its children held."""

import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_EVERY_SECONDS = 0.25


class CommandError(Exception):
    """A command that was measured failed: what it was and the end of what it said."""


@dataclass(frozen=True)
class Measured:
    """Wall time in seconds, peak memory in GB: resident, and the part of it that is not a mapped file."""

    seconds: float
    memory_gb: float
    own_memory_gb: float


def cryoloom_command() -> list[str]:
    """The installed `cryoloom` that belongs to this Python."""
    beside = Path(sys.executable).with_name("cryoloom")
    found = str(beside) if beside.is_file() else shutil.which("cryoloom")
    return [found] if found else [sys.executable, "-c", "from cryoloom.cli.main import run; run()"]


def measure(command: list[str], folder: Path, log: Path) -> Measured:
    """Run `command` in `folder`, its output into the file `log`. Raises CommandError where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        watch = _MemoryWatch(process.pid)
        watch.start()
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - started
        watch.stop()
    if code:
        tail = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise CommandError(f"exit {code}: {' / '.join(tail) or 'it said nothing'} ({log})")
    return Measured(seconds, watch.resident / 1e9, watch.own / 1e9)


class _MemoryWatch(threading.Thread):
    """Looks at a process and its children several times a second and keeps the largest sums, in bytes."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.resident, self.own = pid, 0, 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            try:
                root = psutil.Process(self.pid)
                family = [root, *root.children(recursive=True)]
            except psutil.Error:
                continue
            # The kernel's high-water mark of the first process misses nothing between two looks.
            first = _status(self.pid)
            others = [_status(process.pid) for process in family[1:]]
            self.resident = max(self.resident, first["VmHWM"] + sum(s["VmRSS"] for s in others))
            self.own = max(self.own, sum(s["RssAnon"] + s["RssShmem"] for s in (first, *others)))

    def stop(self) -> None:
        self._over.set()
        self.join()


def _status(pid: int) -> dict[str, int]:
    """VmHWM, VmRSS, RssAnon and RssShmem of a process in bytes; elsewhere than on Linux all but the last its RSS."""
    wanted: dict[str, int] = {"VmHWM": 0, "VmRSS": 0, "RssAnon": 0, "RssShmem": 0}
    file = Path(f"/proc/{pid}/status")
    try:
        if file.exists():
            for line in file.read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in wanted:
                    wanted[name] = 1024 * int(rest.split()[0])
        else:
            resident = psutil.Process(pid).memory_info().rss
            wanted |= {"VmHWM": resident, "VmRSS": resident, "RssAnon": resident}
    except (OSError, psutil.Error):
        pass
    return wanted


class Workbench:
    """A folder of simulations and runs; what the same code has measured there already is not run again.

    data: folder of the public data sets. commit: of the code. commands: all that was asked for, data folder as DATA.
    """

    def __init__(self, folder: Path, data: Path, commit: str):
        self.folder, self.data, self.commit = folder.absolute(), data.absolute(), commit
        self.commands: list[str] = []

    def cryoloom(self, name: str, *arguments: object) -> Measured:
        """Measure `cryoloom ARGUMENTS`, which make `name` (a file or folder in this folder). Raises CommandError."""
        return self.program(name, cryoloom_command(), "cryoloom", *arguments)

    def program(self, name: str, command: list[str], called: str, *arguments: object) -> Measured:
        """As `cryoloom`, for any `command`; the page shows it as `called`."""
        words = [str(argument) for argument in arguments]
        shown = " ".join([called, *words]).replace(str(self.data), "DATA")
        self.commands.append(shown)
        key = {"commit": self.commit, "command": shown}
        record = self._record(name)
        if record.is_file():
            old = json.loads(record.read_text())
            # Changed files go by one name whatever is in them: what they gave is not taken over.
            same = old["key"] == key and not self.commit.endswith("+")
            if same and (self.folder / name).exists():
                return Measured(**old["measured"])
        record.unlink(missing_ok=True)
        self._remove(name)
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        found = measure([*command, *words], self.folder, self.log(name))
        record.write_text(json.dumps({"key": key, "measured": asdict(found)}))
        return found

    def log(self, name: str) -> Path:
        """What the command that made `name` said."""
        return self.folder / "logs" / f"{self._record(name).stem}.txt"

    def _record(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '.')}.measured.json"

    def forget(self, prefix: str) -> None:
        """Remove the measurements of everything whose name begins with `prefix`."""
        for record in self.folder.glob(f"{prefix}*.measured.json"):
            record.unlink()

    def _remove(self, name: str) -> None:
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
