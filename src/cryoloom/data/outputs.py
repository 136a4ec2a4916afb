"""What a command may write: never over one of its inputs, nor over what is not its own."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryoloom.data.files import replacing
from cryoloom.errors import InputError

_RECORD = ".cryoloom-written.json"


@contextmanager
def writing(
    targets: Iterable[Path], by: str, inputs: Iterable[str | Path] = (), overwrite: bool = False
) -> Iterator[None]:
    """Hold files that are about to be written against the rule, and remember at the end who wrote them.

    by: the command with what it was called for; it may write its own files again, as long as nobody has changed them.
    inputs: files that it reads. Raises InputError where a target is an input, or exists, was not written by the same
    command, and overwrite is not given.
    """
    targets = [Path(target).absolute() for target in targets]
    used = {identity for path in inputs if (identity := _identity(Path(path))) is not None}
    for target in targets:
        if _identity(target) in used:
            raise InputError(f"{target} is one of the files that are read: give another -o, so that it is kept.")
        if target.is_dir():
            raise InputError(f"{target} is a folder; expected a file to write: give another -o.")
        if target.exists() and not overwrite and _record(target.parent).get(target.name) != _entry(target, by):
            raise InputError(
                f"{target} exists, and this command did not write it: give another -o, or --overwrite to replace it."
            )
    before = {target: _entry(target, by) for target in targets}
    try:
        yield
    finally:
        # What an interrupted command has written is its own, too.
        for folder in dict.fromkeys(target.parent for target in targets):
            ours = [target for target in targets if target.parent == folder and target.exists()]
            written = {target.name: entry for target in ours if (entry := _entry(target, by)) != before[target]}
            if written:
                with replacing(folder / _RECORD) as part:
                    part.write_text(json.dumps(_record(folder) | written, indent=1))


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _entry(path: Path, by: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    status = path.stat()
    return {"by": by, "size": status.st_size, "modified": status.st_mtime_ns}


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
