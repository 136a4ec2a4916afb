"""`cryoloom analyze`: the landscape of a run's conformations."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console

from cryoloom.cli.progress import StageProgress
from cryoloom.errors import InputError
from cryoloom.evaluate.embedding import UMAP_MISSING, has_umap
from cryoloom.evaluate.landscape import FOLDER, analyse
from cryoloom.report.html import write_report
from cryoloom.solve.trained import read_latents


def analyze(
    run: Path,
    *,
    clusters: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=99))] = 10,
    umap: bool | None = None,
    seed: int = 0,
) -> None:
    """Analyse the conformations of a run: components, clusters, density, traversals, flexible regions.

    Tables (parquet), maps and a summary go to RUN/analysis, the map at the middle of each cluster to
    RUN/volumes/conformations, and figures of all of it to RUN/report.html. A warning is given where the conformations
    follow the viewing direction, the in-plane angle, the shift or the defocus.

    Parameters
    ----------
    run
        Folder of a finished run with conformations, such as one of cryodrgn.
    clusters
        How many clusters k-means makes; `cryoloom select --cluster` takes particles of one.
    umap
        Draw a UMAP of up to 20,000 particles, which takes a minute; without the option, where umap-learn is installed.
    seed
        Seed of all random draws.
    """
    console = Console()
    read_latents(run)
    if umap and not has_umap():
        raise InputError("--umap needs umap-learn, which is not installed: pip install 'cryoloom[umap]'.")
    if umap is None and not has_umap():
        console.print(UMAP_MISSING, highlight=False, markup=False, soft_wrap=True)
    with StageProgress(console) as progress:
        warnings = analyse(run, clusters, seed, has_umap() if umap is None else umap, progress)
        progress("report", 0, 1, "")
        page = write_report(run)
        progress("report", 1, 1, "")
    for warning in warnings:
        console.print(f"[bold yellow]warning:[/] {warning['message']} {warning['advice']}", soft_wrap=True)
    for path in (run / FOLDER, run / "volumes" / "conformations", page):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
