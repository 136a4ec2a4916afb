"""`cryoloom crop`: a movie of each particle from a movie of the field of view and a table of tracks."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from cryoloom.data.outputs import writing
from cryoloom.data.tracks import crop_movie


def crop(
    movie: Path,
    tracks: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    box: int = 64,
    pixel_size: float | None = None,
    overwrite: bool = False,
) -> None:
    """Cut a movie of each tracked particle out of a movie of the field of view, drift removed.

    Every image is centred on its track, to fractions of a pixel. Frames in which a track is missing, or its box leaves
    the field, are left out.

    Example: `cryoloom crop cell_01.mrc tracks.csv --box 64 -o movies`.

    Parameters
    ----------
    movie
        Multi-frame MRC stack.
    tracks
        CSV with columns particle, x, y (pixels, from 0) and frame (from 0), as trackpy or TrackMate write them.
    output
        Folder to write particles.star and particles.mrcs into.
    box
        Image size in pixels, even.
    pixel_size
        Å per pixel, where the movie's header has none or a wrong one.
    overwrite
        Replace particles in the folder that another command wrote.
    """
    by = f"crop {movie.absolute()} {tracks.absolute()} {box} {pixel_size}"
    with writing([output / "particles.star", output / "particles.mrcs"], by, [movie, tracks], overwrite):
        written, left = crop_movie(movie, tracks, output, box, pixel_size)
    console = Console()
    console.print(f"wrote {output / 'particles.star'}: {written} images, {left} left out at the edge", highlight=False)
