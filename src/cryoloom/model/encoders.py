"""Networks from images to features, shared by what infers poses and what infers conformations."""

import math
from typing import Literal

import torch
from pydantic import BaseModel
from pydantic import Field as Setting
from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.model.weights import draw_weights
from cryoloom.physics.fourier import FrequencyLattice

_LEAST_SIDE = 3


class EncoderSettings(BaseModel, extra="forbid"):
    """The network that reads images."""

    network: Literal["cnn", "vgg", "mlp"] = Setting(
        default="cnn",
        description="cnn: three blocks of 3x3 convolutions; vgg: five, with group norm; mlp: dense layers.",
    )
    box: int = Setting(default=32, gt=7, description="Images are cropped to this box in Fourier space before.")
    width: int = Setting(default=32, gt=0, description="Channels of the first block; units of mlp's layers, by 8.")
    layers: int = Setting(default=2, gt=0, description="Residual layers of mlp, between its first and its last.")
    features: int = Setting(default=256, gt=0, description="Numbers that an image ends as.")
    flat: float = Setting(
        default=0.0,
        ge=0,
        le=1,
        description="How far the shells of an image are brought to equal power, 1: wholly. Where large features hide "
        "the small ones that tell orientations apart.",
    )
    low_pass: int = Setting(
        default=0, ge=0, description="Gaussian low-pass copies of the image beside it, each half as wide as the last."
    )


def small_images(spectrum: Tensor, lattice: FrequencyLattice, box: int, low_pass: int = 0, flat: float = 0.0) -> Tensor:
    """Real images (B, 1 + low_pass, box, box) of spectra (B, P), cropped in Fourier space, standard deviation one.

    `flat` divides each shell of an image by that power of its own root mean square. Channel i ≥ 1 is filtered by
    exp(−|k|²/2σ²), σ = band / 2^i.
    """
    band = min(float(lattice.radius[-1]), box / 2 - 1)
    small = FrequencyLattice.of_box(box, spectrum.device).prefix(band)
    cropped = spectrum[:, : len(small)]
    if flat:
        power = small.shell_mean(cropped.abs().square())
        cropped = cropped * small.from_shells(power.clamp(min=1e-12 * power.amax()).pow(-0.5 * flat))
    filters = [torch.ones_like(small.radius)]
    filters += [torch.exp(-0.5 * (small.radius * 2**i / band) ** 2) for i in range(1, low_pass + 1)]
    images = small.images(cropped[:, None] * torch.stack(filters))
    return images / images.flatten(2).std(2).clamp(min=1e-12)[..., None, None]


def convolutions(before: int, channels: int, layers: int, norm: bool, end: nn.Module) -> list[nn.Module]:
    """`layers` 3×3 convolutions with ReLU, group norm between where asked, and what ends the block."""
    made: list[nn.Module] = []
    for i in range(layers):
        made.append(nn.Conv2d(channels if i else before, channels, 3, padding=1))
        if norm:
            # Unlike batch norm it needs no running means, which a stopped or shared run would have to keep.
            made.append(nn.GroupNorm(math.gcd(8, channels), channels))
        made.append(nn.ReLU())
    return [*made, end]


def network_of(settings: EncoderSettings) -> nn.Module:
    """The network (B, 1 + low_pass, box, box) → (B, features) that settings name."""
    s, before = settings, 1 + settings.low_pass
    if s.network == "mlp":
        width = 8 * s.width
        first = [nn.Flatten(), nn.Linear(before * s.box**2, width), nn.ReLU()]
        return nn.Sequential(
            *first, *(_Residual(width) for _ in range(s.layers)), nn.Linear(width, s.features), nn.ReLU()
        )
    layers: list[nn.Module] = []
    plan = [(1, 2), (2, 2), (4, 2)] if s.network == "cnn" else [(1, 2), (2, 2), (4, 3), (4, 2), (4, 2)]
    side = s.box
    for i, (factor, count) in enumerate(plan):
        # What lies where is what a pose is read from: of a small image less is pooled.
        pooled = side >= 2 * _LEAST_SIDE
        pool = (nn.MaxPool2d(2) if i < 3 else nn.AvgPool2d(2)) if pooled else nn.Identity()
        layers += convolutions(before, factor * s.width, count, s.network == "vgg", pool)
        before, side = factor * s.width, side // 2 if pooled else side
    dense = [nn.Flatten(), nn.Linear(before * side**2, s.features), nn.ReLU()]
    return nn.Sequential(*layers, *dense, nn.Linear(s.features, s.features), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.layer(x))


class Encoder(nn.Module):
    """Features (B, V, F) of a batch's images: one view each, or two with the image turned by π in its plane.

    The two views are the hypotheses of the symmetric loss (Levy et al. 2022, eq. 10).
    """

    def __init__(self, settings: EncoderSettings, views: Literal[1, 2], generator: torch.Generator):
        super().__init__()
        self.settings, self.views = settings, views
        self.features = settings.features
        # With channels innermost convolutions take a fifth less time on a CPU.
        self.network = network_of(settings).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.reset(generator)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, V, F)."""
        spectrum = batch.spectrum
        if self.views == 2:
            # Turning an image by π about its centre conjugates its transform.
            spectrum = torch.stack([spectrum, spectrum.conj()], 1).flatten(0, 1)
        images = small_images(spectrum, batch.lattice, self.settings.box, self.settings.low_pass, self.settings.flat)
        features = self.network(images.contiguous(memory_format=torch.channels_last))
        return features.view(len(batch), self.views, -1).float()
