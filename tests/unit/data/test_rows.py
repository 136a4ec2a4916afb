"""Rows of a particle file, taken out as they stand there."""

import gzip

import numpy as np
import pytest

from cryoloom.data.rows import copy_rows
from cryoloom.errors import InputError

STAR = """
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
           1 opticsGroup1   300.000000     2.700000     0.100000     1.340000

# version 30001

data_particles

loop_
_rlnImageName #1
_rlnOddZernike #2
_rlnOpticsGroup #3
_rlnComment #4
000001@a.mrcs [0,0.10,-0] 1 "two words"
000002@a.mrcs [0,0.20,-0] 1 'another one'
000003@a.mrcs [0,0.30,-0] 1 1.10000

data_general
_note kept
"""


@pytest.mark.parametrize("name", ["in.star", "in.star.gz"])
def test_lines_of_a_star_file_stay_as_they_are(tmp_path, name):
    opener = gzip.open if name.endswith(".gz") else open
    with opener(tmp_path / name, "wt") as stream:
        stream.write(STAR)
    assert copy_rows(tmp_path / name, tmp_path / "out.star", np.array([2, 0]))
    lines = STAR.splitlines()
    expected = [line for line in lines if not line.startswith("000002@")]
    assert (tmp_path / "out.star").read_text().splitlines() == expected


def test_rows_over_two_lines_keep_their_values(tmp_path):
    text = "data_\nloop_\n_rlnImageName\n_rlnDefocusU\n000001@a.mrcs\n1.5\n000002@a.mrcs\n2.5\n"
    (tmp_path / "in.star").write_text(text)
    assert copy_rows(tmp_path / "in.star", tmp_path / "out.star", np.array([1]))
    written = (tmp_path / "out.star").read_text()
    assert "000002@a.mrcs\t2.5" in written
    assert "000001" not in written


def test_records_of_a_cs_file_stay_as_they_are(tmp_path):
    records = np.zeros(
        5, dtype=[("uid", "u8"), ("blob/path", "S9"), ("alignments3D/pose", "f4", 3), ("own/field", "i4")]
    )
    records["uid"], records["own/field"] = np.arange(5) + 100, np.arange(5) ** 2
    records["alignments3D/pose"] = np.random.default_rng(0).normal(size=(5, 3))
    with (tmp_path / "in.cs").open("wb") as stream:
        np.save(stream, records)
    assert copy_rows(tmp_path / "in.cs", tmp_path / "out.cs", np.array([1, 4]))
    assert (np.load(tmp_path / "out.cs") == records[[1, 4]]).all()


def test_another_kind_is_left_to_the_caller(tmp_path):
    (tmp_path / "in.star").write_text(STAR)
    assert not copy_rows(tmp_path / "in.star", tmp_path / "out.cs", np.array([0]))
    assert not (tmp_path / "out.cs").exists()


def test_rows_that_are_gone(tmp_path):
    (tmp_path / "in.star").write_text(STAR)
    with pytest.raises(InputError, match="has 3 particles, but particle 5"):
        copy_rows(tmp_path / "in.star", tmp_path / "out.star", np.array([4]))
