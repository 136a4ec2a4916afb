"""The numbers of evaluation.json in words, for people who read tables."""

from typing import Any, NamedTuple


class Meaning(NamedTuple):
    """What a number of evaluation.json is, its unit and how many decimals are worth showing."""

    text: str
    unit: str
    decimals: int


MEANINGS = {
    "resolution_fsc50_angst": Meaning("resolution to the truth, FSC 0.5", "Å", 2),
    "oracle_fsc50_angst": Meaning("same data at the true poses, FSC 0.5", "Å", 2),
    "resolution_over_oracle": Meaning("resolution ÷ what the data allow", "×", 2),
    "resolution_fsc143_angst": Meaning("resolution to the truth, FSC 0.143", "Å", 2),
    "fsc50_px": Meaning("resolution to the truth, FSC 0.5", "px", 2),
    "rotation_error_deg_median": Meaning("rotation error, median", "°", 2),
    "rotation_error_median": Meaning("rotation error ‖R−R̂‖²_F, median", "", 4),
    "rotation_error_mean": Meaning("rotation error ‖R−R̂‖²_F, mean", "", 4),
    "shift_error_px_median": Meaning("shift error, median", "px", 3),
    "shift_error_px_mean_square": Meaning("shift error, mean square", "px²", 3),
    "per_particle_fsc_auc_mean": Meaning("area under the per-particle FSC, mean", "", 3),
    "per_conformation_fsc_auc_mean": Meaning("the same, mean over conformations", "", 3),
    "latent_neighbour_accuracy": Meaning("latent neighbours of the same kind", "", 3),
    "conformation_correlation": Meaning("correlation with the true conformation", "", 3),
    "oracle_conformation_correlation": Meaning("the same by maximum likelihood at the truth", "", 3),
    "conformation_correlation_over_oracle": Meaning("correlation ÷ what the data allow", "×", 3),
    "information_imbalance_latent_to_truth": Meaning("information imbalance, latent → truth", "", 3),
    "information_imbalance_truth_to_latent": Meaning("information imbalance, truth → latent", "", 3),
}


def in_words(evaluation: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of (meaning, value, unit) of the numbers that an evaluation holds, the hand last."""
    rows = [
        (meaning.text, f"{float(evaluation[name]):.{meaning.decimals}f}", meaning.unit)
        for name, meaning in MEANINGS.items()
        if isinstance(evaluation.get(name), int | float)
    ]
    if rows and "hand_flipped" in evaluation:
        rows.append(("hand", "mirrored" if evaluation["hand_flipped"] else "as the truth", ""))
    return rows
