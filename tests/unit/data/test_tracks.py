"""Particles cut out of a movie along their tracks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.cli.crop import crop
from cryoloom.data import read_particles
from cryoloom.data.mrc import write_stack
from cryoloom.data.tracks import crop_movie, read_tracks
from cryoloom.errors import InputError

SIZE = 48
PATHS = {4: [(20.0, 16.0), (21.3, 17.6), (23.8, 18.1)], 9: [(30.5, 33.25), (31.0, 31.4), (44.0, 30.0)]}


@pytest.fixture
def filmed(tmp_path: Path) -> Path:
    """Two blobs that drift through three frames; the second leaves its box's reach in the last."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    frames = torch.zeros(3, SIZE, SIZE)
    rows = ["x,y,frame,particle"]
    for number, path in PATHS.items():
        for t, (px, py) in enumerate(path):
            frames[t] += torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
            rows.append(f"{px},{py},{t},{number}")
    write_stack(tmp_path / "field.mrcs", [frames], 3, SIZE, 2.5)
    # Rows in no order.
    (tmp_path / "tracks.csv").write_text("\n".join([rows[0], *rows[:0:-1]]))
    return tmp_path


def test_every_image_is_centred_on_its_track(filmed, capsys):
    crop(filmed / "field.mrcs", filmed / "tracks.csv", box=16, output=filmed / "out")
    assert "5 images, 1 left out" in capsys.readouterr().out
    particles = read_particles(filmed / "out" / "particles.star")
    assert particles.pixel_size == 2.5
    assert {name: len(rows) for name, rows in particles.movies().items()} == {"field_4": 3, "field_9": 2}
    assert particles.column("frame").tolist() == [0, 1, 2, 0, 1]
    y, x = torch.meshgrid(torch.arange(16) - 8, torch.arange(16) - 8, indexing="ij")
    expected = torch.exp(-(x**2 + y**2) / 8.0)
    for image in particles.images():
        assert torch.allclose(image, expected, atol=0.02)


def test_trackmate_tables_are_read(tmp_path):
    head = "TRACK_ID,POSITION_X,POSITION_Y,FRAME\nTrack ID,X,Y,Frame\nTrack ID,X,Y,Frame\n,(pixel),(pixel),\n"
    (tmp_path / "spots.csv").write_text(head + "3,4.5,6.5,0\n3,5.5,7.5,1\n")
    found = read_tracks(tmp_path / "spots.csv")
    assert found.particle.tolist() == [3, 3]
    assert np.allclose(found.x, [4.5, 5.5])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("x,y,frame\n1,2,0\n", "no column particle"),
        ("x,y,frame,particle\n1,2,0,a\n", "row 2: particle, x, y and frame must be numbers"),
        ("x,y,frame,particle\n20,20,0,1\n21,20,0,1\n", "row 3: particle 1 is in frame 0 twice"),
        ("x,y,frame,particle\n20,20,7,1\n", "count frames from 0"),
        ("x,y,frame,particle\n1,2,0,1\n", "take a smaller box"),
    ],
)
def test_tables_that_do_not_fit_are_refused(filmed, table, said):
    (filmed / "bad.csv").write_text(table)
    with pytest.raises(InputError, match=said):
        crop_movie(filmed / "field.mrcs", filmed / "bad.csv", filmed / "out", 16)
    assert not (filmed / "out" / "particles.star").exists()


def test_a_box_that_does_not_fit_is_refused(filmed):
    with pytest.raises(InputError, match="box 64 does not fit"):
        crop_movie(filmed / "field.mrcs", filmed / "tracks.csv", filmed / "out", 64)
