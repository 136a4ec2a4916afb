"""Where a molecule moves: principal components of its maps, and how much each voxel varies."""

from dataclasses import dataclass

import torch
from torch import Tensor

COMPONENTS = 4


@dataclass(frozen=True)
class Flexibility:
    """Of weighted maps. mean, variability: (D, D, D), the latter the standard deviation of each voxel; components:
    (C, D, D, D), each as far as one standard deviation goes; explained: (C,) parts of the variance; scores: (K, C) of
    the maps, in standard deviations.
    """

    mean: Tensor
    variability: Tensor
    components: Tensor
    explained: Tensor
    scores: Tensor


def flexibility_of(volumes: Tensor, weights: Tensor, most: int = COMPONENTS) -> Flexibility:
    """Principal components of maps (K, D, D, D) that stand for `weights` (K,) particles each.

    With X = √w (V − V̄), the eigenvectors u of the small matrix X Xᵀ give the components Xᵀu.
    """
    w = (weights / weights.sum()).to(volumes)
    mean = torch.einsum("k,kzyx->zyx", w, volumes)
    away = (volumes - mean) * w.sqrt()[:, None, None, None]
    flat = away.flatten(1)
    values, vectors = torch.linalg.eigh((flat @ flat.T).double())
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1).to(volumes)
    count = min(most, len(volumes) - 1)
    components = (vectors[:, :count].T @ flat).view(count, *mean.shape)
    scores = vectors[:, :count] / w.sqrt().clamp(min=1e-6)[:, None]
    explained = values[:count] / values.sum().clamp(min=1e-30)
    return Flexibility(mean, away.square().sum(0).sqrt(), components, explained.float(), scores)
