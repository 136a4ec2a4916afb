"""What a file holds that changes images and is not used is named, with its column and value."""

from pathlib import Path

import numpy as np
import pytest

from cryoloom.data import read_particles
from cryoloom.data.cryosparc import read_cs, write_cs
from cryoloom.data.unused import CRYOSPARC_TERMS, RELION_TERMS, unused_terms


@pytest.mark.parametrize(
    ("label", "neutral", "value", "name"),
    [
        ("rlnBeamTiltY", 0.0, -0.3, "unused-beam-tilt"),
        ("rlnMagMat00", 1.0, 1.01, "unused-anisotropic-magnification"),
        ("rlnMagMat10", 0.0, 0.005, "unused-anisotropic-magnification"),
        ("rlnOddZernike", "[0,0,0,0,0,0]", "[0,0.5,0,0,0,0]", "unused-antisymmetric-aberrations"),
        ("rlnEvenZernike", "[0.0,0.0]", "[0,-1e-2]", "unused-symmetric-aberrations"),
        ("rlnCtfScalefactor", 1, 0.7, "unused-scale-of-the-CTF"),
        ("rlnIsFlip", 0, 1, "unused-mirrored-images"),
    ],
)
def test_relions_terms(label: str, neutral: object, value: object, name: str) -> None:
    assert unused_terms({label: np.array([neutral, neutral])}, RELION_TERMS) == []
    (found,) = unused_terms({label: np.array([neutral, value])}, RELION_TERMS)
    assert found.serious
    assert found.name == name
    assert label in found.text


@pytest.mark.parametrize(
    ("label", "neutral", "width"),
    [
        ("ctf/tilt_A", 0, 2),
        ("ctf/shift_A", 0, 2),
        ("ctf/trefoil_A", 0, 2),
        ("ctf/tetra_A", 0, 4),
        ("ctf/anisomag", 0, 4),
        ("ctf/scale", 1, 0),
        ("alignments3D/alpha", 1, 0),
    ],
)
def test_cryosparcs_terms(label: str, neutral: float, width: int) -> None:
    column = np.full((3, width) if width else 3, neutral, dtype=np.float32)
    assert unused_terms({label: column}, CRYOSPARC_TERMS) == []
    column.flat[-1] = neutral + 0.25
    (found,) = unused_terms({label: column}, CRYOSPARC_TERMS)
    assert label in found.text


def test_both_readers_look(project: Path) -> None:
    star = project / "job" / "particles.star"
    (found,) = read_particles(star).findings
    assert "rlnBeamTiltX 0.25" in found.text
    write_cs(project / "job" / "p.cs", read_particles(star))
    records = read_cs(project / "job" / "p.cs")
    tilt = np.zeros(len(records), dtype=[*records.dtype.descr, ("ctf/tilt_A", "<f4", (2,))])
    for name in records.dtype.names or ():
        tilt[name] = records[name]
    tilt["ctf/tilt_A"][3, 1] = 0.1
    with (project / "job" / "p.cs").open("wb") as stream:
        np.save(stream, tilt)
    (found,) = read_particles(project / "job" / "p.cs").findings
    assert "beam tilt (ctf/tilt_A 0.1)" in found.text


def test_not_a_number_is_not_neutral() -> None:
    (found,) = unused_terms({"rlnBeamTiltX": np.array([0.0, np.nan])}, RELION_TERMS)
    assert "nan" in found.text
