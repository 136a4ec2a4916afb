"""Files: atomic replacement, and where a stack named in somebody else's metadata lies on this disk."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryoloom.errors import InputError


@contextmanager
def reading(path: str | Path, what: str, advice: str = "copy or write it again") -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into an InputError that names it: damage has no end of kinds."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): check the disk and its rights."
        ) from error
    except MemoryError as error:
        raise InputError(f"{path} asks for more memory than there is: it is damaged, or too large.") from error
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{path} is not a sound {what} ({reason[:200]}): {advice}.") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; when the block ends well it becomes `path` in one step, else it goes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; results are as readable as anything else the user writes.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def existing(path: str | Path, what: str = "file") -> Path:
    """The absolute path of an existing regular file; raises InputError naming it otherwise."""
    path = _expanded(Path(path)).absolute()
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is no name of a file; expected a {what}: check the name.")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; expected a {what}: give the file itself.")
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist; expected a {what}: check the name.")
    return path


def _expanded(path: Path) -> Path:
    """The path with ~ replaced by the home folder, where there is such a user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def relative_name(name: str, folder: Path) -> str:
    """A stack's name as seen from `folder` where it lies in or near it, else the absolute path."""
    relative = os.path.relpath(name, folder.absolute())
    return relative if relative.count("..") <= 4 else name


def locate(name: str, source: Path, datadir: str | Path | None = None) -> Path:
    """Absolute path of the stack that `source` calls `name`.

    Tried in turn: the name below `datadir`, whole and then shorn of its leading folders; the folder of `source` and
    every folder above it (metadata name stacks relative to the project); the working folder. If nothing exists there,
    the path beside `source` is returned, so that metadata stay readable without images.
    """
    relative = _expanded(Path(name.lstrip(">")))
    if datadir is not None:
        parts = [part for part in relative.parts if part not in ("/", ".", "..")]
        tails = [Path(datadir).absolute() / Path(*parts[i:]) for i in range(len(parts))]
        found = next((tail for tail in tails if os.path.isfile(tail)), None)
        if found is not None:
            return found
        if not relative.is_absolute():
            relative = Path(*parts)
        elif not os.path.isfile(relative):
            return tails[-1]
    if relative.is_absolute():
        return relative
    folders = [source.absolute().parent, *source.absolute().parent.parents, Path.cwd()]
    candidates = [folder / relative for folder in folders]
    return Path(os.path.normpath(next((path for path in candidates if os.path.isfile(path)), candidates[0])))
