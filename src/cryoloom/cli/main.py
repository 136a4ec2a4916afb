"""The `cryoloom` command: subcommands, and errors as sentences."""

import atexit
import ctypes
import errno
import gc
import os
import sys

from cyclopts import App, CycloptsError
from rich.console import Console

import cryoloom
from cryoloom.errors import EchoedError, InputError, TeammateLostError

# At its end Python looks for garbage in all that the libraries hold, which takes longer than many a command.
atexit.register(gc.freeze)

# As in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

# Module and one line of each command: nothing is imported before it is called.
COMMANDS = {
    "demo": ("demo", "Simulate a molecule, reconstruct it, compare it with the truth: the whole way in a minute."),
    "info": ("info", "Show what is in a particle file, what is missing, and what looks wrong."),
    "simulate": ("simulate", "Make particles with known truth from a structure or a map."),
    "crop": ("crop", "Cut a movie of each tracked particle out of a movie of the field of view."),
    "reconstruct": ("reconstruct", "Find the map and the pose of every particle."),
    "resume": ("reconstruct", "Continue a run that was interrupted."),
    "predict": ("predict", "Read poses off new particles with a trained network."),
    "evaluate": ("evaluate", "Compare a run with the truth of a simulation."),
    "fsc": ("fsc", "Fourier shell correlation of two maps."),
    "analyze": ("analyze", "Latent space: components, clusters, traversals, flexible regions."),
    "volumes": ("volumes", "Maps of chosen conformations, and their film."),
    "select": ("select", "Some of the particles, as their own file had them."),
    "export": ("export", "Hand a run over to RELION, cryoSPARC or cryoDRGN."),
    "report": ("report", "Make the page of a run again."),
    "view": ("view", "A run as a page to click in, on this machine."),
    "systems": ("systems", "The published systems and ours, and the settings of each."),
    "bench": ("bench", "Reproduce a table or figure, side by side with what was published."),
}


def build_app(called: str | None = None) -> App:
    """The command line; the command that is `called` explains itself at length, the others in one line."""
    app = App(
        name="cryoloom",
        help="From noisy particle images to a volume, the pose of every particle, and how the molecule moves.",
        version=cryoloom.__version__,
        # Otherwise the library ends the process without a word.
        suppress_keyboard_interrupt=False,
    )
    for name, (module, line) in COMMANDS.items():
        app.command(f"cryoloom.cli.{module}:{name}", name=name, help=None if name == called else line)
    return app


def _keep_freed_memory() -> None:
    """Have the C library keep what tensors leave: else each asks anew for pages, which the kernel fills with zeros."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 512 << 20)


def run(arguments: list[str] | None = None) -> None:
    """Entry point: exit 0 when all is well, 2 for what the user can mend, 1 for a fault of ours, 130 after Ctrl-C."""
    _keep_freed_memory()
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    # Of the processes of a run, the first speaks for all where all stop for one reason.
    follows = any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK"))
    errors = Console(stderr=True)
    try:
        build_app(next(iter(arguments), None))(arguments, exit_on_error=False, print_error=False)
    except EchoedError:
        sys.exit(2)
    except (InputError, CycloptsError) as error:
        if debug:
            raise
        errors.print(f"[bold red]cryoloom:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        if not follows:
            errors.print(
                "stopped; `cryoloom resume RUN` continues a run where it was.", highlight=False, soft_wrap=True
            )
        sys.exit(130)
    except TeammateLostError as error:
        if not follows:
            errors.print(f"[bold red]cryoloom:[/] {_plain(error)}: see what it says.", highlight=False, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        if debug or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            _ours(errors, error, debug)
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space, then `cryoloom resume` the run" if full else "choose another place"
        errors.print(f"[bold red]cryoloom:[/] {where}{error.strerror}: {advice}.", highlight=False, soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        _ours(errors, error, debug)


def _plain(error: Exception) -> str:
    return str(error).replace("[", r"\[")


def _ours(errors: Console, error: Exception, debug: bool) -> None:
    if debug:
        raise error
    kind = f"{type(error).__name__}: {_plain(error)}"
    errors.print(f"[bold red]cryoloom failed:[/] {kind}", highlight=False, soft_wrap=True)
    errors.print("This is a fault of ours; --debug shows where it happened.")
    sys.exit(1)


if __name__ == "__main__":
    run()
