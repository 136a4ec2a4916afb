"""Frequencies of images and volumes: the half-plane lattice, shells, centred transforms, shift phases.

Everything is centred on voxel `D // 2`. An image's spectrum is kept as the coefficients of one half plane (the other
half is their conjugate), sorted by radius, so that a band limit is a prefix.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FrequencyLattice:
    """Half-plane frequencies of a `box`² image inside the circle |k| < box/2, sorted by radius.

    k: (P, 2) integer frequencies (kx, ky) as float, with kx > 0, or kx = 0 and ky ≥ 0.
    radius: (P,) |k|. shell: (P,) nearest integer radius. weight: (P,) how often a coefficient stands in the full plane
    (1 at the origin, 2 elsewhere). rfft_index: (P,) its place in a flattened `rfft2` output.
    """

    box: int
    k: Tensor
    radius: Tensor
    shell: Tensor
    weight: Tensor
    rfft_index: Tensor
    centre_sign: Tensor

    @classmethod
    def of_box(cls, box: int, device: torch.device | str = "cpu") -> "FrequencyLattice":
        """The lattice of an even `box`."""
        return _lattice(box, str(device))

    @property
    def n_shells(self) -> int:
        """Number of shells, 0 … box/2 − 1."""
        return self.box // 2

    def __len__(self) -> int:
        return len(self.radius)

    def count(self, band: float) -> int:
        """Number of coefficients with |k| ≤ band: the length of the prefix."""
        return int(torch.searchsorted(self.radius, band + 1e-4))

    def prefix(self, band: float) -> "FrequencyLattice":
        """The lattice of the frequencies |k| ≤ band."""
        return self.select(slice(self.count(band)))

    def select(self, index: Tensor | slice) -> "FrequencyLattice":
        """The lattice of some of the frequencies, which must be in order."""
        parts = (self.k, self.radius, self.shell, self.weight, self.rfft_index, self.centre_sign)
        return FrequencyLattice(self.box, *(part[index] for part in parts))

    def spectrum(self, images: Tensor) -> Tensor:
        """Centred Fourier coefficients (B, P) of real images (B, D, D): `Σ x(r) exp(−2πi k·(r − D//2)/D)`."""
        full = torch.fft.rfft2(images).flatten(-2)
        return full[..., self.rfft_index] * self.centre_sign

    def images(self, spectrum: Tensor) -> Tensor:
        """Real images (B, D, D) of half-plane coefficients (B, P); frequencies outside the lattice are zero."""
        half = self.box // 2 + 1
        full = spectrum.new_zeros(*spectrum.shape[:-1], self.box * half)
        full[..., self.rfft_index] = spectrum * self.centre_sign
        full = full.unflatten(-1, (self.box, half))
        # irfft2 reads the whole column kx = 0, of which the lattice holds one half.
        full[..., self.box // 2 + 1 :, 0] = full[..., 1 : self.box // 2, 0].flip(-1).conj()
        return torch.fft.irfft2(full, s=(self.box, self.box))

    def shell_mean(self, values: Tensor) -> Tensor:
        """Mean over each shell, (…, P) → (…, n_shells)."""
        sums = values.new_zeros(*values.shape[:-1], self.n_shells + 1).index_add_(-1, self.shell, values)
        counts = torch.bincount(self.shell, minlength=self.n_shells + 1).clamp(min=1)
        return (sums / counts.to(values))[..., : self.n_shells]

    def from_shells(self, radial: Tensor) -> Tensor:
        """Values on the lattice, (…, P), of a radial function (…, n_shells), linear between shells."""
        last = radial.shape[-1] - 1
        low = self.radius.floor().long().clamp(max=last)
        high = (low + 1).clamp(max=last)
        part = (self.radius - low).to(radial)
        return radial[..., low] * (1 - part) + radial[..., high] * part


@lru_cache(maxsize=16)
def _lattice(box: int, device: str) -> FrequencyLattice:
    if box % 2:
        raise ValueError(f"box must be even, got {box}")
    # fftfreq · box is not quite whole where the box is no power of two.
    ky, kx = torch.meshgrid((torch.fft.fftfreq(box) * box).round(), torch.arange(box // 2 + 1.0), indexing="ij")
    kx, ky = kx.flatten(), ky.flatten()
    radius = torch.hypot(kx, ky)
    kept = ((kx > 0) | (ky >= 0)) & (radius < box / 2)
    order = torch.argsort(radius[kept], stable=True)
    index = torch.nonzero(kept)[:, 0][order]
    k = torch.stack([kx, ky], -1)[index]
    radius = radius[index]
    sign = 1.0 - 2.0 * (k.sum(-1).long() % 2).float()
    weight = torch.where(radius == 0, 1.0, 2.0)
    parts = (k, radius, radius.round().long(), weight, index, sign)
    return FrequencyLattice(box, *(part.to(device) for part in parts))


def shift_phases(k: Tensor, shift_px: Tensor, box: int) -> Tensor:
    """Phases exp(−2πi k·t/D), (…, P), that move an image by t = `shift_px` (…, 2) pixels (x, y); k (P, 2) is whole."""
    # One factor for kx and one for ky: 2D sines and cosines instead of P of each.
    whole = k.round().long()
    axis = torch.arange(-(box // 2), box // 2 + 1, device=k.device, dtype=torch.float32)
    turn = shift_px[..., None] * axis * (-2 * math.pi / box)
    factors = torch.polar(torch.ones((), device=k.device), turn)
    return factors[..., 0, whole[:, 0] + box // 2] * factors[..., 1, whole[:, 1] + box // 2]


def to_hartley(spectrum: Tensor) -> Tensor:
    """Hartley coefficients Re − Im of complex half-plane coefficients at k and −k, stacked: (…, P) → (…, 2, P)."""
    return torch.stack([spectrum.real - spectrum.imag, spectrum.real + spectrum.imag], -2)


def from_hartley(hartley: Tensor) -> Tensor:
    """Complex coefficients of Hartley pairs: (…, 2, P) → (…, P); the inverse of `to_hartley`."""
    plus, minus = hartley.unbind(-2)
    return torch.complex((plus + minus) / 2, (minus - plus) / 2)


def centred_fft3(volume: Tensor) -> Tensor:
    """Fourier transform of a volume (D, D, D) centred on D//2, zero frequency at index D//2."""
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(volume)))


def centred_half_fft3(volume: Tensor) -> Tensor:
    """The half 0 ≤ kx < D/2 of `centred_fft3` of a real volume (D, D, D)."""
    spectrum = torch.fft.rfftn(torch.fft.ifftshift(volume))
    return torch.fft.fftshift(spectrum[..., : (len(volume) + 1) // 2], dim=(0, 1))


def centred_ifft3(spectrum: Tensor) -> Tensor:
    """Real volume of a centred spectrum; the inverse of `centred_fft3`."""
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(spectrum))).real


def radii3(box: int, device: torch.device | str = "cpu") -> Tensor:
    """Distance (D, D, D) of each voxel from the centre D//2, in voxels."""
    r = torch.arange(box, device=device, dtype=torch.float32) - box // 2
    return torch.sqrt(r[:, None, None] ** 2 + r[None, :, None] ** 2 + r[None, None, :] ** 2)


def shell_sums3(values: Tensor) -> Tensor:
    """Sums (D/2,) of a centred volume's values over shells of integer radius 0 … D/2 − 1."""
    box = values.shape[-1]
    shell = radii3(box, values.device).round().long().clamp(max=box // 2).flatten()
    sums = torch.zeros(box // 2 + 1, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, shell, values.flatten().double())[: box // 2]


def fourier_shell_correlation(a: Tensor, b: Tensor) -> Tensor:
    """FSC (D/2,) of two volumes (D, D, D): `Σ F_a F_b* / sqrt(Σ|F_a|² Σ|F_b|²)` on each shell."""
    fa, fb = centred_fft3(a), centred_fft3(b)
    cross = shell_sums3((fa * fb.conj()).real)
    power = shell_sums3(fa.abs() ** 2) * shell_sums3(fb.abs() ** 2)
    return (cross / power.clamp(min=1e-300).sqrt()).float()


def crossing_shell(fsc: Tensor, threshold: float | Tensor) -> float:
    """The shell, between integers, where the FSC first falls below `threshold` (one, or one a shell).

    The last shell if it never does; a shell that is not a number counts as below. Shells 1 and 2 hold few coefficients,
    and what lies around the molecule: a dip there does not count if shells 3 and 4 are above.
    """
    above = (fsc - threshold).nan_to_num(nan=-1.0)
    below = above < 0
    if len(fsc) > 4 and not bool(below[3:5].any()):
        below[1:3] = False
    found = torch.nonzero(below[1:])
    if len(found) == 0:
        return float(len(fsc) - 1)
    i = int(found[0]) + 1
    high, low = float(above[i - 1]), float(above[i])
    return i - 1 + high / max(high - low, 1e-9) if high >= 0 else float(i)


def resample_volume(volume: Tensor, box: int) -> Tensor:
    """A map (D, D, D) cropped or padded in Fourier space to `box`³, keeping the field of view and the grey values."""
    old = volume.shape[-1]
    if old == box:
        return volume
    small = min(old, box)
    a, b = old // 2 - small // 2, box // 2 - small // 2
    inner, outer = slice(a, a + small), slice(b, b + small)
    spectrum = centred_fft3(volume)
    out = spectrum.new_zeros(box, box, box)
    out[outer, outer, outer] = spectrum[inner, inner, inner]
    return centred_ifft3(out) * (box / old) ** 3


def resample_images(images: Tensor, box: int) -> Tensor:
    """Images (…, D, D) cropped or padded in Fourier space to `box`², keeping the field of view and the grey values."""
    old = images.shape[-1]
    if old == box:
        return images
    spectrum = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(images, dim=(-2, -1))), dim=(-2, -1))
    small = min(old, box)
    a, b = old // 2 - small // 2, box // 2 - small // 2
    out = spectrum.new_zeros(*images.shape[:-2], box, box)
    out[..., b : b + small, b : b + small] = spectrum[..., a : a + small, a : a + small]
    out = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(out, dim=(-2, -1))), dim=(-2, -1)).real
    return out * (box / old) ** 2
