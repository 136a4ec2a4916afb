"""Maps moved as rigid bodies: mirrored, turned, shifted; and low-passed, so that they can be compared."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3, resample_volume

# Mirror through the image plane: it keeps a projection's (x, y) and reverses the line of sight.
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0]))


def mirror_rotation(rotation: Tensor) -> Tensor:
    """Rotations (…, 3, 3) in which the mirrored map gives the same projections: `M R M`, M = diag(1, 1, −1).

    With V′(x) = V(M x) and the line of sight reversed, `∫V′(R′ᵀ(x, y, z))dz = ∫V(M R′ᵀ M (x, y, z))dz`, so that
    R = M R′ M. Shifts stay. Inverting through the centre, V(−x), is the same up to a global
    rotation: R′ = diag(−1, −1, 1) R.
    """
    mirror = MIRROR.to(rotation)
    return mirror @ rotation @ mirror


def mirror_volume(volume: Tensor) -> Tensor:
    """The other hand of maps (…, D, D, D): V(x, y, −z) about the centre D//2."""
    flipped = volume.flip(-3)
    return flipped if volume.shape[-3] % 2 else flipped.roll(1, -3)


def low_pass(volume: Tensor, band: float) -> Tensor:
    """A map (D, D, D) times `exp(−(k/band)⁴ ln 2)` in Fourier space: half amplitude at `band` Fourier pixels."""
    filter_ = torch.exp2(-((radii3(volume.shape[-1], volume.device) / band) ** 4))
    return centred_ifft3(centred_fft3(volume) * filter_)


def without_round_part(volume: Tensor) -> Tensor:
    """A map (D, D, D) less its mean over spheres around the centre, linear between radii of whole voxels."""
    radius = radii3(volume.shape[-1], volume.device)
    low = radius.floor().long()
    part = radius - low
    size = int(low.max()) + 2
    weight, total = volume.new_zeros(size), volume.new_zeros(size)
    for index, share in ((low, 1 - part), (low + 1, part)):
        weight.index_add_(0, index.flatten(), share.flatten())
        total.index_add_(0, index.flatten(), (share * volume).flatten())
    mean = total / weight.clamp(min=1e-6)
    return volume - (mean[low] * (1 - part) + mean[low + 1] * part)


def sample_moved(volume: Tensor, rotation: Tensor, translation: Tensor, oversampling: int = 1) -> Tensor:
    """Maps (B, D, D, D) turned by `rotation` (B, 3, 3), then moved by `translation` (B, 3) voxels, trilinearly.

    `out(v) = V(Rᵀ(v − t))`, zero outside. `volume` is (f·D, f·D, f·D) where `oversampling` is f.
    """
    fine = volume.shape[-1]
    box = fine // oversampling
    axis = torch.arange(box, device=volume.device, dtype=volume.dtype) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1).view(1, -1, 3) - translation[:, None]
    index = (points @ rotation) * oversampling + fine // 2
    grid = (index * (2 / (fine - 1)) - 1).view(-1, box, box, box, 3)
    source = volume[None, None].expand(len(grid), 1, -1, -1, -1)
    return grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[:, 0]


def apply_to_volume(volume: Tensor, rotation: Tensor, flip: bool = False, translation: Tensor | None = None) -> Tensor:
    """A map (D, D, D) mirrored where `flip`, turned by `rotation` (3, 3), then moved by `translation` (3,) voxels.

    `out(v) = V(M Rᵀ(v − t))` with M = diag(1, 1, −1) or 1. Particles that had pose P in the map have
    `P Rᵀ` (`M P M Rᵀ` where flipped) in the result. Vectors are (x, y, z).
    """
    volume = mirror_volume(volume) if flip else volume
    box = volume.shape[-1]
    # Trilinear reading of a Fourier-padded map keeps the outer shells, which it would dampen on the map's own grid.
    oversampling = 3 if box <= 85 else 2 if box <= 256 else 1
    shift = torch.zeros(3) if translation is None else translation
    fine = resample_volume(volume, oversampling * box)
    return sample_moved(fine, rotation.to(volume)[None], shift.to(volume)[None], oversampling)[0]
