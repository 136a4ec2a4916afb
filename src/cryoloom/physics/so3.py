"""Rotations: RELION's Euler angles, 6-D and quaternion parameters, uniform grids, distances, point groups."""

import math
from dataclasses import dataclass

import healpix
import numpy as np
import roma
import torch
from torch import Tensor


def matrix_from_euler(degrees: Tensor) -> Tensor:
    """Matrix (…, 3, 3), x_image = R x_volume, of RELION's (rot, tilt, psi) in degrees (…, 3): Rz(−ψ) Ry(−θ) Rz(−φ)."""
    return roma.euler_to_rotmat("ZYZ", -degrees.flip(-1), degrees=True)


def euler_from_matrix(rotation: Tensor) -> Tensor:
    """RELION's (rot, tilt, psi) in degrees (…, 3), tilt in [0, 180]; the inverse of `matrix_from_euler`."""
    r = rotation.double()
    sine = torch.hypot(r[..., 2, 0], r[..., 2, 1])
    tilt = torch.atan2(sine, r[..., 2, 2])
    # At the poles only rot ± psi is defined: all of it is given to psi.
    rot = torch.where(sine < 1e-6, 0.0, torch.atan2(r[..., 2, 1], r[..., 2, 0]))
    # R turns (−sin rot, cos rot, 0) into (sin psi, cos psi, 0), which holds at the poles too.
    psi = torch.atan2(
        r[..., 0, 1] * torch.cos(rot) - r[..., 0, 0] * torch.sin(rot),
        r[..., 1, 1] * torch.cos(rot) - r[..., 1, 0] * torch.sin(rot),
    )
    return torch.rad2deg(torch.stack([rot, tilt, psi], -1)).to(rotation.dtype)


def matrix_from_6d(six: Tensor) -> Tensor:
    """Matrix (…, 3, 3) whose rows are the Gram–Schmidt basis of two vectors, (…, 6) (Zhou et al. 2019)."""
    return roma.special_gramschmidt(six.unflatten(-1, (2, 3)).transpose(-1, -2)).transpose(-1, -2)


def matrix_from_rotvec(vector: Tensor) -> Tensor:
    """Matrix (…, 3, 3) of a rotation vector (…, 3) in radians: exp([v]×)."""
    return roma.rotvec_to_rotmat(vector)


def random_rotations(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Uniform random rotations (n, 3, 3)."""
    quaternion = torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=-1)
    return roma.unitquat_to_rotmat(quaternion)


def angular_distance(a: Tensor, b: Tensor) -> Tensor:
    """Angle in degrees (…) of the rotation between a and b (…, 3, 3), accurate near zero."""
    frobenius = torch.linalg.matrix_norm(a - b)
    return torch.rad2deg(2 * torch.asin((frobenius / math.sqrt(8)).clamp(max=1)))


@dataclass(frozen=True)
class RotationGrid:
    """Hopf grid of SO(3) at a HEALPix level: 12·4^level directions × 6·2^level in-plane turns, spaced 60°/2^level.

    Level 2 is the 15° grid of 4,608 rotations. A rotation is named by an integer, `direction · n_inplane + turn`, with
    nested HEALPix directions, so that the eight children of a rotation on the next level are arithmetic
    (Yershova et al. 2010).
    """

    level: int

    @property
    def n_directions(self) -> int:
        return 12 * 4**self.level

    @property
    def n_inplane(self) -> int:
        return 6 * 2**self.level

    def __len__(self) -> int:
        return self.n_directions * self.n_inplane

    @property
    def spacing_deg(self) -> float:
        """In-plane step in degrees; the mean distance of directions is about the same."""
        return 360.0 / self.n_inplane

    def rotations(self, index: Tensor | None = None) -> Tensor:
        """Rotations (n, 3, 3) at integers `index` (n,); all of them without it."""
        if index is None:
            index = torch.arange(len(self))
        direction = torch.div(index, self.n_inplane, rounding_mode="floor").cpu().numpy()
        # HEALPix azimuths jump near the poles; carrying the in-plane zero along from parent to child (parallel
        # transport) keeps the eight children of a rotation around it everywhere.
        origin = np.zeros(direction.shape)
        parent_phi: np.ndarray | None = None
        for level in range(self.level + 1):
            theta, phi = healpix.pix2ang(2**level, direction >> 2 * (self.level - level), nest=True)
            if parent_phi is not None:
                turn = (phi - parent_phi + math.pi) % (2 * math.pi) - math.pi
                origin -= np.cos(theta) * turn
            parent_phi = phi
        psi = origin + ((index % self.n_inplane).cpu().numpy() + 0.5) * (2 * math.pi / self.n_inplane)
        euler = torch.from_numpy(np.rad2deg(np.stack([phi, theta, psi], -1)))
        return matrix_from_euler(euler).float().to(index.device)

    def children(self, index: Tensor) -> Tensor:
        """Integers (…, 8), on the grid one level finer, of the children of `index` (…)."""
        direction = torch.div(index, self.n_inplane, rounding_mode="floor")
        turn = index % self.n_inplane
        directions = 4 * direction[..., None] + torch.arange(4, device=index.device)
        turns = 2 * turn[..., None] + torch.arange(2, device=index.device)
        children = directions[..., :, None] * (2 * self.n_inplane) + turns[..., None, :]
        return children.flatten(-2)

    @classmethod
    def with_spacing(cls, degrees: float) -> "RotationGrid":
        """The coarsest grid whose in-plane step is at most `degrees`."""
        return cls(max(0, math.ceil(math.log2(60.0 / degrees) - 1e-6)))


def _axis_turns(axis: list[float], n: int) -> list[np.ndarray]:
    unit = np.array(axis) / np.linalg.norm(axis)
    vectors = torch.from_numpy(unit)[None] * (2 * math.pi / n * torch.arange(n).double())[:, None]
    return list(roma.rotvec_to_rotmat(vectors).numpy())


def _close(generators: list[np.ndarray]) -> Tensor:
    group = [np.eye(3)]
    frontier = group
    while frontier:
        products = [g @ s for g in frontier for s in generators]
        frontier = []
        for p in products:
            if all(np.abs(p - q).max() > 1e-6 for q in group):
                group.append(p)
                frontier.append(p)
    return torch.from_numpy(np.stack(group)).float()


def point_group(name: str) -> Tensor:
    """Rotations (n, 3, 3) of a point group, with RELION's axes: Cn, Dn (n-fold on z, 2-fold on x), T (3-fold on z), O
    (4-folds on x, y, z), I = I2 and I1 (2-folds on x, y, z; 5-fold in the xz plane nearer to z, or to x).

    Raises ValueError for an unknown name.
    """
    kind, order = name.strip().upper()[:1], name.strip()[1:]
    golden = (1 + math.sqrt(5)) / 2
    if kind and kind in "CD" and order.isdigit() and int(order) > 0:
        turns = _axis_turns([0, 0, 1], int(order))
        flips = _axis_turns([1, 0, 0], 2) if kind == "D" else []
        return _close(turns[1:2] + flips[1:])
    if kind == "T" and not order:
        return _close([_axis_turns([0, 0, 1], 3)[1], _axis_turns([0, math.sqrt(2), 1], 2)[1]])
    if kind == "O" and not order:
        return _close([_axis_turns([1, 1, 1], 3)[1], _axis_turns([0, 0, 1], 4)[1]])
    if kind == "I" and order in ("", "1", "2"):
        fivefold = [golden, 0, 1] if order == "1" else [1, 0, golden]
        return _close([_axis_turns([1, 1, 1], 3)[1], _axis_turns([0, 0, 1], 2)[1], _axis_turns(fivefold, 5)[1]])
    raise ValueError(f"unknown point group {name!r}: expected Cn, Dn, T, O, I, I1 or I2")


def nearest_equivalent(rotation: Tensor, reference: Tensor, group: Tensor) -> Tensor:
    """Of the rotations R·g, which show a molecule of point group `group` (n, 3, 3) alike, those nearest to others.

    rotation, reference: (…, 3, 3), of shapes that fit together. Returns (…, 3, 3).
    """
    if len(group) == 1:
        return rotation.expand(torch.broadcast_shapes(rotation.shape, reference.shape))
    every = rotation[..., None, :, :] @ group.to(rotation)
    trace = (every * reference[..., None, :, :]).sum((-2, -1))
    best = trace.argmax(-1)[..., None, None, None].expand(*trace.shape[:-1], 1, 3, 3)
    return every.expand(*trace.shape, 3, 3).gather(-3, best).squeeze(-3)


def asymmetric_unit(rotations: Tensor, group: Tensor) -> Tensor:
    """Which rotations (n,) lie in the cell of the identity: no R·g is turned by less than R (symmetry acts as R·g)."""
    traces = torch.einsum("nij,gji->ng", rotations, group)
    return traces[:, 0] >= traces.max(1).values - 1e-5
