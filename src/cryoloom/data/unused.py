"""Columns of particle files that change how an image is formed, and that no method here takes into account."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cryoloom.data.findings import Finding

# Closer to neutral than this changes no image.
_NEGLIGIBLE = 1e-6


class Term(NamedTuple):
    """A part of the image formation: its columns, each with the value that means nothing, and what it is."""

    columns: dict[str, float]
    what: str


RELION_TERMS = (
    Term({"rlnBeamTiltX": 0, "rlnBeamTiltY": 0}, "beam tilt"),
    Term({"rlnMagMat00": 1, "rlnMagMat01": 0, "rlnMagMat10": 0, "rlnMagMat11": 1}, "anisotropic magnification"),
    Term({"rlnOddZernike": 0}, "antisymmetric aberrations"),
    Term({"rlnEvenZernike": 0}, "symmetric aberrations"),
    Term({"rlnCtfScalefactor": 1}, "scale of the CTF"),
    Term({"rlnIsFlip": 0}, "mirrored images"),
)
CRYOSPARC_TERMS = (
    Term({"ctf/tilt_A": 0}, "beam tilt"),
    Term({"ctf/shift_A": 0}, "image shift of the CTF"),
    Term({"ctf/trefoil_A": 0}, "trefoil"),
    Term({"ctf/tetra_A": 0}, "tetrafoil"),
    Term({"ctf/anisomag": 0}, "anisotropic magnification"),
    Term({"ctf/scale": 1, "ctf/scale_const": 0}, "scale of the CTF"),
    Term({"alignments3D/alpha": 1}, "scale of each particle"),
)


def unused_terms(columns: Mapping[str, Any] | pd.DataFrame, terms: tuple[Term, ...]) -> list[Finding]:
    """A finding for each of `terms` that the columns (N, …) of a file hold with another value than the neutral one.

    cryoSPARC keeps the deviation from 1 of a magnification, RELION the matrix; lists of Zernike coefficients are text.
    """
    return [finding for term in terms if (finding := _finding(columns, term)) is not None]


def _finding(columns: Mapping[str, Any] | pd.DataFrame, term: Term) -> Finding | None:
    present = [
        (label, value)
        for label, neutral in term.columns.items()
        if label in columns and (value := _furthest(columns[label], neutral)) is not None
    ]
    if not present:
        return None
    values = ", ".join(f"{label} {value:.3g}" for label, value in present)
    return Finding(
        f"the file gives {term.what} ({values}), which is not taken into account",
        serious=True,
        name="unused-" + term.what.replace(" ", "-"),
        advice="The map is as if the file did not give it: fine detail may be lost. Refine these poses in the program "
        "that the file comes from, or remove the columns if they should not count.",
    )


def _furthest(column: Any, neutral: float) -> float | None:
    """The value of a column that is furthest from neutral, None where all are neutral."""
    numbers = _numbers(column)
    away = np.abs(numbers - neutral)
    away[np.isnan(away)] = np.inf
    if not away.size or away.max() <= _NEGLIGIBLE:
        return None
    return float(numbers.flat[int(away.argmax())])


def _numbers(column: Any) -> np.ndarray:
    values = np.asarray(column)
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    return np.array([number for text in dict.fromkeys(map(str, values)) for number in _listed(text)], dtype=np.float64)


def _listed(text: str) -> list[float]:
    """The numbers of a text such as [0.1,-2] or 0.1."""
    try:
        found = json.loads(text)
        return [float(number) for number in (found if isinstance(found, list) else [found])]
    except (ValueError, TypeError):
        return [float("nan")]
