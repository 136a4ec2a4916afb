"""On what a benchmark ran: processor, threads, memory, and the commit of the code."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

import cryoloom


def machine(device: str = "cpu") -> dict[str, Any]:
    """Name of the GPU for "cuda", else of the CPU; threads that may be used; memory in GB."""
    name = _gpu_name() if device == "cuda" else _cpu_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A list gives the threads of nested regions, the outermost first.
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    threads = min(cores or 1, int(asked) if asked.isdigit() else cores or 1)
    return {"name": name, "threads": threads, "memory_gb": round(psutil.virtual_memory().total / 1e9, 1)}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name()


def code_commit() -> str:
    """The last commit that changed the package, "+" where files of it are changed since; the version without git.

    Committing results or pages leaves it as it is, so that measurements stay those of the same code.
    """
    return _last_change(".")


def program_commit() -> str:
    """The same for all but the benchmarks themselves: what a command that was run does not depend on them."""
    return _last_change(".", ":(exclude)evaluate/bench", ":(exclude)cli/bench.py")


def _last_change(*paths: str) -> str:
    package = Path(cryoloom.__file__).parent
    commit = _git(package, "log", "-1", "--format=%h", "--abbrev=10", "--", *paths)
    if not commit:
        return f"version {cryoloom.__version__}"
    return commit + ("+" if _git(package, "status", "--porcelain", "--", *paths) else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
