"""Real-space masks: a soft sphere while nothing is known, the molecule's own envelope afterwards."""

import numpy as np
import torch
from torch import Tensor

from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3

# The contour of a low-passed map is unsure by about half of what the low-pass blurs.
_GROWTH = 0.4
# In details of the map: an edge this soft mixes a frequency with its own shell and the next.
_EDGE = 2.0
# In boxes: a map of which hardly anything is known still gets a mask with an inside.
_WIDEST_EDGE = 1 / 6


def soft_sphere(box: int, radius: float, edge: float = 3.0, device: torch.device | str = "cpu") -> Tensor:
    """Mask (D, D, D): one inside `radius` voxels, a cosine fall-off over `edge` voxels, zero outside."""
    return _fall_off(radii3(box, device) - radius, edge)


def _fall_off(distance: Tensor, edge: float) -> Tensor:
    return 0.5 + 0.5 * torch.cos(torch.pi * (distance / edge).clamp(0, 1))


def low_pass(volume: Tensor, band: float, edge: float = 2.0) -> Tensor:
    """Volume with frequencies above `band` Fourier pixels removed, over a soft edge."""
    gain = _fall_off(radii3(volume.shape[-1], volume.device) - band + edge / 2, edge)
    return centred_ifft3(centred_fft3(volume) * gain)


def molecule_mask(volume: Tensor, band: float, limit: Tensor, resolved: float | None = None) -> Tensor:
    """Soft envelope (D, D, D) of the molecule in a map, inside the mask `limit`.

    The map low-passed to `band` is thresholded where it stands out from the solvent, upwards or downwards (Otsu's
    threshold of its magnitude): the sign is not known yet, and may differ within a map. Connected regions of a
    twentieth of the largest or more (a domain on a linker, not specks of noise) are dilated by two fifths of the finest
    detail of the low-passed map, D / band voxels, and given a soft edge of two details of the map itself, D / resolved
    voxels, at most a sixth of the box; `resolved` is the shell up to which the map is known, `band` where that is not
    said. In Å these depend on no pixel size. Falls back to `limit` where nothing stands out.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.filters import threshold_otsu
    from skimage.measure import label

    smooth = (low_pass(volume, band) * limit).cpu().numpy()
    inside = (limit > 0.5).cpu().numpy()
    if not np.isfinite(smooth).all() or not inside.any():
        return limit
    smooth = np.abs(smooth - np.median(smooth[inside]))
    solid = (smooth > threshold_otsu(smooth[inside])) & inside
    regions = np.asarray(label(solid))
    if regions.max() == 0:
        return limit
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    kept = (sizes >= sizes.max() / 20)[regions]
    distance = torch.from_numpy(distance_transform_edt(~kept)).float().to(volume.device)
    box = volume.shape[-1]
    edge = box * min(_EDGE / max(resolved or band, 1.0), _WIDEST_EDGE)
    return _fall_off(distance - _GROWTH * box / band, edge) * limit
