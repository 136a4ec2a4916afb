"""The sign of the molecule in the images, judged by the map."""

from typing import NamedTuple

from torch import Tensor


def skewness(density: Tensor) -> float:
    """Third standardised moment of some values: positive where a few are much larger than the rest."""
    centred = density - density.mean()
    return float((centred**3).mean() / centred.square().mean().clamp(min=1e-30) ** 1.5)


class Contrast(NamedTuple):
    """How the molecule looks in the images, "white" or "black", and the sign that turns it positive in the map."""

    name: str
    sign: int


def contrast_of(density: Tensor, contrast: str, has_ctf: bool) -> Contrast:
    """Contrast of a molecule from the density of a map; `contrast` if not "auto". has_ctf: of the images.

    C is negative at low frequency, so a white molecule gives a negative map, and without a CTF a positive one. A
    molecule is denser than the solvent around it, so its density is skewed upwards.
    """
    upright, inverted = ("black", "white") if has_ctf else ("white", "black")
    if contrast == "auto":
        contrast = upright if skewness(density) >= 0 else inverted
    return Contrast(contrast, 1 if contrast == upright else -1)
