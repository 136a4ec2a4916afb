"""Real-space masks: a soft sphere while nothing is known, the molecule's own envelope afterwards."""

import numpy as np
import torch
from torch import Tensor

from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3


def soft_sphere(box: int, radius: float, edge: float = 3.0, device: torch.device | str = "cpu") -> Tensor:
    """Mask (D, D, D): one inside `radius` voxels, a cosine fall-off over `edge` voxels, zero outside."""
    return _fall_off(radii3(box, device) - radius, edge)


def _fall_off(distance: Tensor, edge: float) -> Tensor:
    return 0.5 + 0.5 * torch.cos(torch.pi * (distance / edge).clamp(0, 1))


def low_pass(volume: Tensor, band: float, edge: float = 2.0) -> Tensor:
    """Volume with frequencies above `band` Fourier pixels removed, over a soft edge."""
    gain = _fall_off(radii3(volume.shape[-1], volume.device) - band + edge / 2, edge)
    return centred_ifft3(centred_fft3(volume) * gain)


def molecule_mask(volume: Tensor, band: float, limit: Tensor, grow: float = 3.0, edge: float = 4.0) -> Tensor:
    """Soft envelope (D, D, D) of the molecule in a map, inside the mask `limit`.

    The map low-passed to `band` is thresholded where it stands out from the solvent, upwards or downwards (Otsu's
    threshold of its magnitude): the sign is not known yet, and may differ within a map. Connected regions of a
    twentieth of the largest or more (a domain on a linker, not specks of noise) are dilated by `grow` voxels and given
    a soft edge of `edge` voxels. Falls back to `limit` where nothing stands out.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.filters import threshold_otsu
    from skimage.measure import label

    smooth = (low_pass(volume, band) * limit).cpu().numpy()
    inside = (limit > 0.5).cpu().numpy()
    smooth = np.abs(smooth - np.median(smooth[inside]))
    solid = smooth > threshold_otsu(smooth[inside])
    regions = np.asarray(label(solid))
    if regions.max() == 0:
        return limit
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    kept = (sizes >= sizes.max() / 20)[regions]
    distance = torch.from_numpy(distance_transform_edt(~kept)).float().to(volume.device)
    return _fall_off(distance - grow, edge) * limit
