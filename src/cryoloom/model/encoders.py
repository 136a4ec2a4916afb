"""Networks from images to features, shared by what infers poses and conformations."""

from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.physics.fourier import FrequencyLattice


def small_images(batch: Batch, box: int) -> Tensor:
    """Real images (B, box, box) of a batch, cropped in Fourier space and scaled to a standard deviation of one."""
    band = min(float(batch.lattice.radius[-1]), box / 2 - 1)
    lattice = FrequencyLattice.of_box(box, batch.spectrum.device).prefix(band)
    images = lattice.images(batch.spectrum[:, : len(lattice)])
    return images / images.flatten(1).std(1).clamp(min=1e-12)[:, None, None]


class ConvolutionalEncoder(nn.Module):
    """Blocks of two 3×3 convolutions, ReLU and 2×2 maximum, then two dense layers: (B, box, box) → (B, features)."""

    def __init__(self, box: int = 32, channels: tuple[int, ...] = (16, 32, 64), features: int = 256):
        super().__init__()
        self.box, self.features = box, features
        layers: list[nn.Module] = []
        before = 1
        for n in channels:
            layers += [nn.Conv2d(before, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, n, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            before = n
        side = box // 2 ** len(channels)
        dense = [nn.Flatten(), nn.Linear(before * side**2, features), nn.ReLU()]
        self.layers = nn.Sequential(*layers, *dense, nn.Linear(features, features), nn.ReLU())

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, F) of a batch."""
        return self.layers(small_images(batch, self.box)[:, None])
