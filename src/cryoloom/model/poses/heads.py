"""How a network's numbers become a rotation: Euler angles, a quaternion, or two vectors (S²×S²)."""

from collections.abc import Callable
from typing import Literal

import roma
import torch
from torch import Tensor, nn

from cryoloom.physics.so3 import matrix_from_6d, matrix_from_euler

HeadName = Literal["s2s2", "quaternion", "euler"]


def rotation_of_quaternion(numbers: Tensor) -> Tensor:
    """Matrix (…, 3, 3) of three numbers v (…, 3), stereographic: q = (2v, 1 − |v|²) / (1 + |v|²)."""
    square = numbers.square().sum(-1, keepdim=True)
    quaternion = torch.cat([2 * numbers, 1 - square], -1) / (1 + square)
    return roma.unitquat_to_rotmat(quaternion)


def rotation_of_euler(numbers: Tensor) -> Tensor:
    """Matrix (…, 3, 3) of RELION's (rot, tilt, psi) in radians (…, 3)."""
    return matrix_from_euler(torch.rad2deg(numbers))


def dense_head(inputs: int, outputs: int) -> nn.Module:
    """Layers from features (…, inputs) to numbers (…, outputs)."""
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, outputs))


HEADS: dict[HeadName, tuple[int, Callable[[Tensor], Tensor]]] = {
    "s2s2": (6, matrix_from_6d),
    "quaternion": (3, rotation_of_quaternion),
    "euler": (3, rotation_of_euler),
}
