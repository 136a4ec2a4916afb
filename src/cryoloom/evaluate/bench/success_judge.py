"""Right or wrong: a run of the success matrix against its truth, and what the run itself says of its map."""

import json
from pathlib import Path
from typing import Any

from cryoloom.data.mrc import read_volume
from cryoloom.evaluate.fsc import FSCCurve
from cryoloom.evaluate.truth import true_map
from cryoloom.physics.rigid import low_pass, without_round_part

# A map is right that is about as fine as its images allow, or whose poses are right, and that also shows, of what is
# not round, what the truth shows. Hands and the molecule's symmetry are taken out by `evaluate`; a symmetric molecule
# that is searched without its symmetry is judged by its map, since its poses may be any of equal ones.
RATIO = 1.25
ERROR_DEG = 5.0
# A shell or a ball of the right size agrees with any hollow or compact molecule to 20 Å: only the rest tells.
NOT_ROUND = 0.7
# Alarms that say that the map may be wrong, as errors do of any name. Others tell of its limits or of its symmetry.
DOUBTS = frozenset(
    {
        "contrast-sign",
        "empty-high-band",
        "halves-disagree",
        "hollow-shell",
        "mirror-mixture",
        "mirror-plane",
        "misread-poses",
        "not-a-number",
        "one-orientation",
        "outline-only",
        "poses-undecided",
        "poses-unknown",
    }
)
DEFINITION = (
    f"A run is right where its map resolves the truth (FSC 0.5) to {RATIO} × what the same images give at their true "
    f"poses, or its median rotation error is at most {ERROR_DEG:g}°, and where the part of the map that is not round "
    f"(less its radial average) also correlates above {NOT_ROUND} with that of the truth, up to {RATIO} × that "
    "resolution. One rotation, hand and translation, and the symmetry that the run was given, are taken out first."
)
# Half-maps claim a shell above the one value that the truth denies below the other.
CLAIMED, DENIED = 0.5, 0.3


def doubts(alarms: list[dict[str, str]]) -> list[str]:
    """Names of the alarms that say that the map may be wrong."""
    return [alarm["name"] for alarm in alarms if alarm["severity"] == "error" or alarm["name"] in DOUBTS]


def verdict(ratio: float, error_deg: float | None, likeness: float) -> bool:
    """Whether a run is right: resolution over oracle, median rotation error in degrees, likeness of the not round."""
    found = ratio <= RATIO or (error_deg is not None and error_deg <= ERROR_DEG)
    return found and likeness >= NOT_ROUND


def judged(run: Path, truth: Path) -> dict[str, Any]:
    """What a row tells of a run that `cryoloom evaluate` compared with `truth`."""
    found = json.loads((run / "evaluation.json").read_text())
    likeness = likeness_of_rest(run, truth, found["oracle_fsc50_angst"])
    error = found["rotation_error_deg_median"]
    return {
        "right": verdict(found["resolution_over_oracle"], error, likeness),
        "ratio": _short(found["resolution_over_oracle"]),
        "resolution_fsc50_angst": _short(found["resolution_fsc50_angst"]),
        "resolution_fsc143_angst": _short(found["resolution_fsc143_angst"]),
        "oracle_fsc50_angst": _short(found["oracle_fsc50_angst"]),
        "rotation_error_deg_median": _short(error),
        "hand_flipped": found["hand_flipped"],
        "not_round": _short(likeness),
    }


def likeness_of_rest(run: Path, truth: Path, oracle_angst: float) -> float:
    """Correlation of map and truth, both less their radial averages, up to RATIO times the oracle's resolution."""
    volume, pixel_size = read_volume(run / "volumes/aligned_to_truth.mrc")
    box = volume.shape[-1]
    band = box * pixel_size / (RATIO * oracle_angst)
    parts = [low_pass(without_round_part(v), band) for v in (volume, true_map(truth, box, pixel_size))]
    a, b = (part - part.mean() for part in parts)
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-30))


def said(run: Path) -> dict[str, Any]:
    """What a run of `reconstruct` says of its own map: alarms, the resolution that its half-maps claim, its signs.

    searches, agreement: of each half-set, and of their maps. undecided: mean posterior beside the best poses.
    """
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    alarms = json.loads((run / "alarms.json").read_text())
    last = {line["stage"]: line for line in lines}
    compared, refined = last.get("half-sets compared", {}), last.get("refine")
    return {
        "searches": compared.get("starts"),
        "agreement": compared.get("agreement"),
        "undecided": _short(1 - refined["max_posterior"]) if refined else None,
        "alarms": [{"name": alarm["name"], "severity": alarm["severity"]} for alarm in alarms],
        "claim_angst": last["results"]["resolution_angst"],
    }


def claimed_but_denied(run: Path) -> int:
    """Number of shells, from the second on, that the half-maps claim and the truth denies.

    Raises InputError for missing curves.
    """
    halves, truth = (FSCCurve.from_csv(run / name).fsc for name in ("fsc.csv", "fsc_truth.csv"))
    n = min(len(halves), len(truth))
    return int(((halves[2:n] > CLAIMED) & (truth[2:n] < DENIED)).sum())


def _short(value: float) -> float:
    return round(float(value), 4)
