"""`cryoloom view`: a run as a page to click in."""

import secrets
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console

from cryoloom.report.viewer.answers import Answers
from cryoloom.report.viewer.server import HOST, serve


def view(
    run: Path,
    *,
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))] = 8765,
    browser: bool = True,
) -> None:
    """Show a run as an interactive page on this machine: latent space, and the map of the particle that you click.

    Draw around particles to keep their rows in a file for `cryoloom select --ind`. The page is served on 127.0.0.1, to
    this machine alone, until Ctrl-C. The address ends with a token: without it no other user of the machine sees it.

    Parameters
    ----------
    run
        Folder of a finished run; with conformations, maps follow the clicks.
    port
        Port of the page; 0 takes any that is free.
    browser
        Open it in the browser.
    """
    token = secrets.token_urlsafe(16)
    server = serve(Answers(run), port, token)
    address = f"http://{HOST}:{server.server_port}/?token={token}"
    Console().print(f"{run} is shown at {address} until Ctrl-C", highlight=False, soft_wrap=True)
    if browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
