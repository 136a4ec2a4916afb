"""The `cryoloom` command: subcommands, and errors as sentences."""

import errno
import os
import sys

# Idle threads of one library must not keep spinning while another works: torch and the compiled loops take turns.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from cyclopts import App, CycloptsError
from rich.console import Console

import cryoloom
from cryoloom.errors import InputError

COMMANDS = {
    "demo": "demo",
    "info": "info",
    "simulate": "simulate",
    "reconstruct": "reconstruct",
    "resume": "reconstruct",
    "evaluate": "evaluate",
    "fsc": "fsc",
    "export": "export",
    "report": "report",
    "systems": "systems",
}

app = App(
    name="cryoloom",
    help="From noisy particle images to a volume, the pose of every particle, and how the molecule moves.",
    version=cryoloom.__version__,
)
for _name, _module in COMMANDS.items():
    app.command(f"cryoloom.cli.{_module}:{_name}", name=_name)


def run(arguments: list[str] | None = None) -> None:
    """Entry point: exit 0 when all is well, 2 for what the user can mend, 1 for a fault of ours, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    errors = Console(stderr=True)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (InputError, CycloptsError) as error:
        if debug:
            raise
        errors.print(f"[bold red]cryoloom:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("stopped; `cryoloom resume RUN` continues a run where it was.")
        sys.exit(130)
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
