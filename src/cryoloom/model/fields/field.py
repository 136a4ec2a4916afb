"""What every volume is to the rest of the package: a function of frequency or position, and a map when asked for."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3

# Points at which a network is asked at once: on a CPU as many as its caches hold, elsewhere as keep it busy.
_CPU_CHUNK, _CHUNK = 4096, 65_536


class Field(nn.Module, ABC):
    """A volume as a differentiable function of points, and of a conformation z where there is one."""

    domain: ClassVar[Literal["fourier", "real"]]

    def __init__(self, box: int):
        super().__init__()
        self.box = box

    @abstractmethod
    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        """Values (B, P) at points (B, P, 3) in (x, y, z), for conformations z (B, Z)."""

    @abstractmethod
    def volume(self, band: float | None = None, z: Tensor | None = None) -> Tensor:
        """The map (D, D, D) of one conformation z (Z,), frequencies above `band` Fourier pixels left out."""

    @abstractmethod
    def slices(self, rotations: Tensor, k: Tensor, z: Tensor | None = None) -> Tensor:
        """Spectra (B, K, P) of the projections at rotations (B, K, 3, 3), at in-plane Fourier pixels k (P, 2)."""

    @abstractmethod
    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""

    @abstractmethod
    def scale_to(self, amplitude: Tensor) -> None:
        """Expect Fourier coefficients as large as `amplitude` (D/2 + 1,) by shell."""

    @torch.no_grad()
    def flexibility(self, z: Tensor) -> dict[str, Tensor]:
        """Maps (D, D, D) of where conformations z (B, Z) differ, by name: the standard deviation of the map."""
        return {"flexibility": torch.stack([self.volume(z=one) for one in z]).std(0)}

    def compile_network(self) -> None:
        """Have torch.compile work on the real-valued part; complex arithmetic is left as it is."""


class FourierField(Field):
    """A volume's Fourier transform: complex values, `V̂(−k) = V̂(k)*`, at frequencies in parts of the sampling rate.

    Points are k / D for k in Fourier pixels, so that the band of a box D ends at 0.5.
    """

    domain = "fourier"

    @property
    def fineness(self) -> int:
        """Samples from one whole frequency to the next, between which the field is linear; 1 where it is smooth."""
        return 1

    def slices(self, rotations: Tensor, k: Tensor, z: Tensor | None = None) -> Tensor:
        """Central slices (B, K, P) at rotations (B, K, 3, 3) and in-plane frequencies k (P, 2): `V̂(Rᵀ(kx, ky, 0))`.

        z: (B, Z), one conformation for all slices of a particle.
        """
        # Where in frequency the network is asked must stay exact, whatever precision it computes in.
        with torch.autocast(rotations.device.type, enabled=False):
            points = torch.einsum("bkji,pj->bkpi", rotations[..., :2, :], k / self.box)
        return self(points.flatten(1, 2), z).view(points.shape[:3])

    @torch.no_grad()
    def volume(self, band: float | None = None, z: Tensor | None = None) -> Tensor:
        """The map (D, D, D) whose centred transform the field is on frequencies |k| ≤ `band` < D/2.

        Whole frequencies say it all of a field that is smooth. One that is linear between finer samples also holds
        noise from outside the box, which whole frequencies alone would fold into it: there all samples make a larger
        map, of which the box is cut out.
        """
        n = self.fineness
        wide = n * self.box
        k = half_space(wide, wide / 2 if band is None else n * band).to(next(self.parameters()).device)
        chunks = (k / wide).split(_CPU_CHUNK if k.device.type == "cpu" else _CHUNK)
        latent = None if z is None else z[None]
        values = torch.cat([self(chunk[None], latent)[0] for chunk in chunks])
        spectrum = values.new_zeros((wide,) * 3)
        # A frequency and its mirror share a value; the origin, its own mirror, is real.
        for sign, value in ((-1, values.conj()), (1, values)):
            x, y, z_ = (sign * k.long() + wide // 2).unbind(-1)
            spectrum[z_, y, x] = value
        volume = centred_ifft3(spectrum)
        return volume if n == 1 else _cut_out(volume, self.box, band)


def _cut_out(volume: Tensor, box: int, band: float | None) -> Tensor:
    """The middle (D, D, D) of a map (W, W, W) as seen by linear interpolation of its transform: times Π sinc²(x/W).

    What the cut spreads beyond the band is left out.
    """
    wide = len(volume)
    first = wide // 2 - box // 2
    middle = volume[(slice(first, first + box),) * 3]
    window = torch.sinc((torch.arange(box, device=volume.device) - box // 2) / wide) ** 2
    spectrum = centred_fft3(middle * window * window[:, None] * window[:, None, None])
    radius = radii3(box, volume.device)
    return centred_ifft3(spectrum * ((radius < box / 2) & (radius <= (band or box) + 1e-4)))


def half_space(box: int, band: float) -> Tensor:
    """Whole frequencies (N, 3) in (x, y, z) with |k| ≤ band, |k| < D/2 and kx ≥ 0."""
    axis = torch.arange(box, dtype=torch.float32) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis[box // 2 :], indexing="ij")
    k = torch.stack([x, y, z], -1).flatten(0, 2)
    radius = k.norm(dim=-1)
    return k[(radius <= band + 1e-4) & (radius < box / 2)]


def positive_half(points: Tensor) -> tuple[Tensor, Tensor]:
    """Points (…, 3) moved by p → −p into the half space, and the sign (…) of the move: 0 at the origin.

    The half space is x > 0, then y > 0 on the plane x = 0, then z > 0 on the line that is left.
    """
    x, y, z = torch.sign(points.detach()).unbind(-1)
    sign = torch.where(x != 0, x, torch.where(y != 0, y, z))
    return points * sign[..., None], sign
