"""The sign of the molecule in the images, judged by the map."""

from torch import Tensor


def skewness(density: Tensor) -> float:
    """Third standardised moment of some values: positive where a few are much larger than the rest."""
    centred = density - density.mean()
    return float((centred**3).mean() / centred.square().mean().clamp(min=1e-30) ** 1.5)


def contrast_of(density: Tensor, contrast: str) -> str:
    """Contrast of the molecule in the images, "white" or "black", from the density of a map; `contrast` if not "auto".

    C is negative at low frequency, so a white molecule gives a negative map. A molecule is denser than the solvent
    around it, so its density is skewed upwards.
    """
    if contrast != "auto":
        return contrast
    return "black" if skewness(density) >= 0 else "white"
