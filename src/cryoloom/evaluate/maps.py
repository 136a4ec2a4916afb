"""The level at which a map is shown."""

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu


def surface_level(volume: NDArray) -> float:
    """A contour level between solvent and molecule: Otsu's threshold of the voxels above the noise."""
    box = volume.shape[0]
    axis = np.arange(box) - box // 2
    ball = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < (0.48 * box) ** 2
    inside = volume[ball]
    spread = 1.4826 * np.median(np.abs(inside - np.median(inside)))
    signal = inside[inside > np.median(inside) + 2 * spread]
    if len(signal) < 10 or np.ptp(signal) == 0:
        return float((inside.min() + inside.max()) / 2)
    return float(threshold_otsu(signal))
