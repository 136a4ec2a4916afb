"""Movies: read from columns or groups, written back, and refused where frames cannot be put in order."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import Particles, read_particles, write_stack, write_star
from cryoloom.data.movies import movie_numbers, with_movies
from cryoloom.errors import InputError

LENGTHS = {"b": 3, "a": 5}


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """One MRC stack a movie, of different lengths, and a list that names them."""
    for name, frames in LENGTHS.items():
        write_stack(tmp_path / f"{name}.mrcs", [torch.randn(frames, 8, 8)], frames, 8, 2.0)
    (tmp_path / "movies.txt").write_text("b.mrcs\na.mrcs\n")
    return tmp_path / "movies.txt"


def rows_of(particles: Particles) -> list[list[int]]:
    return [rows.tolist() for rows in particles.movies().values()]


def test_a_stack_each_is_a_movie_each(stacks):
    filmed = with_movies(read_particles(stacks))
    assert rows_of(filmed) == [[3, 4, 5, 6, 7], [0, 1, 2]]
    movie, frame = movie_numbers(filmed)
    assert movie.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert frame.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]


def test_columns_come_back_as_they_were_written(stacks, tmp_path):
    given = read_particles(stacks).with_columns(
        movie_id=["7", "7", "x", "7", "x", "x", "x", "7"], frame=np.arange(8)[::-1]
    )
    write_star(tmp_path / "out.star", given)
    text = (tmp_path / "out.star").read_text()
    assert "cryoloomMovieId" in text
    assert "cryoloomFrame" in text
    again = with_movies(read_particles(tmp_path / "out.star"))
    # Out of order and with gaps: frames 7, 6, 4 and 0 of one, 5, 3, 2 and 1 of the other.
    assert rows_of(again) == [[7, 3, 1, 0], [6, 5, 4, 2]]
    assert list(again.movies()) == ["7", "x"]


def test_names_of_older_files_are_read(stacks, tmp_path):
    given = read_particles(stacks).with_columns(movie_id=["p", "q"] * 4, frame=np.arange(8) // 2)
    write_star(tmp_path / "new.star", given)
    old = (
        (tmp_path / "new.star").read_text().replace("_cryoloomMovieId", "_movie_id").replace("_cryoloomFrame", "_frame")
    )
    (tmp_path / "old.star").write_text(old)
    assert rows_of(read_particles(tmp_path / "old.star")) == [[0, 2, 4, 6], [1, 3, 5, 7]]


@pytest.mark.parametrize("column", ["rlnTomoName", "micrograph_name"])
def test_groups_stand_in_for_a_missing_column(stacks, column):
    named = read_particles(stacks).with_columns(**{column: np.array(["m2", "m1"] * 4, dtype=object)})
    assert rows_of(with_movies(named)) == [[1, 3, 5, 7], [0, 2, 4, 6]]


def test_what_cannot_be_put_in_order_is_refused(stacks):
    particles = read_particles(stacks)
    twice = particles.with_columns(movie_id=["m"] * 8, frame=[0, 1, 2, 3, 4, 5, 5, 7])
    with pytest.raises(InputError, match="row 7: movie m has frame 5 twice"):
        with_movies(twice)
    some = particles.with_columns(movie_id=["m"] * 7 + [""])
    with pytest.raises(InputError, match="row 8: no cryoloomMovieId"):
        with_movies(some)
    with pytest.raises(InputError, match="which particles form a movie"):
        with_movies(particles.subset(slice(0, 3)))
