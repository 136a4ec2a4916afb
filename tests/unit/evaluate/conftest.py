"""An asymmetric map whose projections tell its hand, and a bench that runs nothing."""

import pytest
import torch
from torch import Tensor

from cryoloom.evaluate.bench.measure import Measured, Workbench


@pytest.fixture(scope="session")
def blob_map() -> Tensor:
    """Twelve Gaussian blobs of random weight within a ball, 32 voxels a side."""
    generator = torch.Generator().manual_seed(7)
    centres = (torch.rand(12, 3, generator=generator) - 0.5) * 13
    weights = 0.5 + torch.rand(12, generator=generator)
    axis = torch.arange(32.0) - 16
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1)
    distance = (points[..., None, :] - centres).square().sum(-1)
    return (weights * torch.exp(-distance / (2 * 1.5**2))).sum(-1)


class Pretended(Workbench):
    """A bench whose commands take no time and leave nothing."""

    def cryoloom(self, name: str, *arguments: object) -> Measured:
        self.commands.append(" ".join(map(str, arguments)))
        return Measured(0, 0, 0)


@pytest.fixture
def pretended(tmp_path) -> Pretended:
    return Pretended(tmp_path, tmp_path, "x")
