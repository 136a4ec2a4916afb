"""`cryoloom systems`: what there is to choose from."""

from rich.console import Console
from rich.table import Table

from cryoloom.cli.settings import setting_fields
from cryoloom.systems.catalogue import SYSTEMS, find_system


def systems(name: str | None = None) -> None:
    """List the systems that `reconstruct --system` takes, with their papers; or all settings of one.

    Parameters
    ----------
    name
        A system, to list its settings with their defaults.
    """
    console = Console()
    if name is None:
        table = Table("system", "what it does", "paper", box=None)
        for system in SYSTEMS.values():
            table.add_row(system.name, system.summary, system.paper)
    else:
        table = Table("option", "default", "meaning", box=None)
        for option, default, meaning in setting_fields(find_system(name).settings):
            table.add_row(f"--{option}", "" if default is None else str(default), meaning)
    console.print(table)
