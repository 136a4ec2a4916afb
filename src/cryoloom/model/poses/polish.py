"""The last level of pose search: damped Newton steps; their curvature is the posterior's width."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.model.poses import _kernels
from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec

VALUES_PER_CHUNK = 4_000_000


class Modes(NamedTuple):
    """K refined modes of the pose posterior of B particles.

    rotation: (B, K, 3, 3); shift: (B, K, 2) in pixels; score: (B, K) log-likelihood up to a constant of the image;
    covariance: (B, K, 5, 5) of (rotation vector in the image frame, radians; shift, pixels), the inverse Fisher matrix.
    """

    rotation: Tensor
    shift: Tensor
    score: Tensor
    covariance: Tensor

    def weights(self) -> Tensor:
        """Posterior probability (B, K) of each mode: its height times its width (Laplace)."""
        log_width = 0.5 * torch.logdet(self.covariance.double()).float()
        return torch.softmax(self.score + log_width, -1)

    def best(self) -> Tensor:
        """Index (B,) of the most probable mode."""
        return self.weights().argmax(-1)

    def order(self) -> "Modes":
        """The same modes, the most probable first."""
        order = self.weights().argsort(-1, descending=True)
        rows = torch.arange(len(order), device=order.device)[:, None]
        return Modes(*(part[rows, order] for part in self))

    def distinct(self, degrees: float = 3.0) -> "Modes":
        """The same modes, best score first, where those that ended within `degrees` of a better one count no more."""
        order = self.score.argsort(-1, descending=True)
        rows = torch.arange(len(order), device=order.device)[:, None]
        modes = Modes(*(part[rows, order] for part in self))
        apart = angular_distance(modes.rotation[:, :, None], modes.rotation[:, None])
        same = torch.tril(apart < degrees, diagonal=-1).any(-1)
        return modes._replace(score=modes.score.masked_fill(same, -torch.inf))

    def sigma(self) -> tuple[Tensor, Tensor]:
        """Root-mean-square angle in degrees (B,) and shift in pixels (B,) between the best mode and the posterior."""
        weight = self.weights()
        best = self.best()
        rows = torch.arange(len(best), device=best.device)
        # tr(AᵀB) = 1 + 2 cos(angle); 3 − tr ≈ angle² close by and stays finite far away.
        cosine = (torch.einsum("bkij,bij->bk", self.rotation, self.rotation[rows, best]) - 1) / 2
        apart = torch.acos(cosine.clamp(-1, 1)) ** 2
        inner = self.covariance.diagonal(dim1=-2, dim2=-1)
        rotation = (weight * (apart + inner[..., :3].sum(-1))).sum(-1)
        moved = ((self.shift - self.shift[rows, best][:, None]) ** 2).sum(-1)
        shift = (weight * (moved + inner[..., 3:].sum(-1))).sum(-1)
        return torch.rad2deg(rotation.sqrt()).clamp(max=180.0), shift.sqrt()


def curvature(
    projector: FourierSlice, evidence: Evidence, rotation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (b, K), gradients (b, K, 5) and Fisher information (b, K, 5, 5) of hypotheses (b, K, …)."""
    if evidence.power.device.type != "cpu":
        return curvature_in_torch(projector, evidence, rotation, shift)
    box = evidence.lattice.box
    parts = (projector.grid, projector.pad, evidence.weighted, evidence.power, evidence.lattice.k, box, rotation, shift)
    return _kernels.curvature(*parts)


def curvature_in_torch(
    projector: FourierSlice, evidence: Evidence, rotation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`curvature` by array operations, for devices that the compiled loop does not serve."""
    b, n = shift.shape[:2]
    k = evidence.lattice.k
    value, slope = projector.project_with_gradient(rotation.flatten(0, 1), evidence.lattice)
    slope = torch.einsum("nij,npjc->inpc", rotation.flatten(0, 1), torch.view_as_real(slope))
    slope = torch.view_as_complex(slope.contiguous())
    jacobian = value.new_empty(5, b * n, len(k))
    # R ← exp([ω]×) R moves the sampled point by Rᵀ(k × ω).
    jacobian[0] = -k[:, 1] * slope[2]
    jacobian[1] = k[:, 0] * slope[2]
    jacobian[2] = k[:, 1] * slope[0] - k[:, 0] * slope[1]
    step = -2j * math.pi / evidence.lattice.box
    jacobian[3] = value * (step * k[:, 0])
    jacobian[4] = value * (step * k[:, 1])
    value, jacobian = value.view(b, n, -1), jacobian.view(5, b, n, -1)
    moved = evidence.centred(shift)
    seen = value * evidence.power[:, None]
    score = 2 * _dot(value, moved) - _dot(value, seen)
    gradient = 2 * _dot(jacobian, moved - seen).movedim(0, -1)
    pairs = torch.view_as_real(jacobian).movedim(0, -2)
    weighted = pairs * evidence.power[:, None, :, None, None]
    flat = pairs.movedim(-1, -3).flatten(-3, -2)
    fisher = 2 * torch.matmul(flat.transpose(-1, -2), weighted.movedim(-1, -3).flatten(-3, -2))
    return score, gradient, fisher


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.real * b.real + a.imag * b.imag).sum(-1)


def polish(projector: FourierSlice, evidence: Evidence, rotation: Tensor, shift: Tensor, steps: int) -> Modes:
    """Refine hypotheses (B, K, 3, 3) and shifts (B, K, 2) px by Levenberg–Marquardt steps on the likelihood.

    Solves (F + λ diag F) δ = g with the Fisher information F; a step that lowers the score is
    taken back and λ grows tenfold.
    """
    size = max(1, VALUES_PER_CHUNK // (10 * rotation.shape[1] * len(evidence.lattice)))
    parts = []
    for start in range(0, len(evidence), size):
        chunk = slice(start, start + size)
        parts.append(_polish(projector, evidence.select(chunk), rotation[chunk], shift[chunk], steps))
    return Modes(*(torch.cat(p) for p in zip(*parts, strict=True)))


def polish_likely(projector: FourierSlice, evidence: Evidence, modes: Modes, steps: int, least: float = 1e-3) -> Modes:
    """Refine further, on all of `evidence`, only modes whose posterior is above `least`; the others count no more."""
    particle, mode = torch.nonzero(modes.weights() > least, as_tuple=True)
    rotation, shift = modes.rotation[particle, mode, None], modes.shift[particle, mode, None]
    likely = polish(projector, evidence.select(particle), rotation, shift, steps)
    kept = Modes(*(part.clone() for part in modes._replace(score=torch.full_like(modes.score, -torch.inf))))
    for whole, part in zip(kept, likely, strict=True):
        whole[particle, mode] = part[:, 0]
    return kept


def _polish(projector: FourierSlice, evidence: Evidence, rotation: Tensor, shift: Tensor, steps: int) -> Modes:
    score, gradient, fisher = curvature(projector, evidence, rotation, shift)
    damping = torch.full_like(score, 1e-2)
    for _ in range(steps):
        diagonal = fisher.diagonal(dim1=-2, dim2=-1)
        floor = 1e-6 * diagonal.amax(-1, keepdim=True) + 1e-12
        system = fisher + torch.diag_embed(damping[..., None] * diagonal + floor)
        delta = torch.linalg.solve(system, gradient[..., None])[..., 0]
        delta[..., :3] = _shorten(delta[..., :3], 0.2)
        delta[..., 3:] = _shorten(delta[..., 3:], 2.0)
        new_rotation = matrix_from_rotvec(delta[..., :3].flatten(0, 1)).view_as(rotation) @ rotation
        new_shift = shift + delta[..., 3:]
        new = curvature(projector, evidence, new_rotation, new_shift)
        better = new[0] > score
        rotation = torch.where(better[..., None, None], new_rotation, rotation)
        shift = torch.where(better[..., None], new_shift, shift)
        score = torch.where(better, new[0], score)
        gradient = torch.where(better[..., None], new[1], gradient)
        fisher = torch.where(better[..., None, None], new[2], fisher)
        damping = torch.where(better, damping * 0.1, damping * 10).clamp(1e-4, 1e4)
    prior = torch.diag(fisher.new_tensor([3.3, 3.3, 3.3, 1e-2, 1e-2]))
    return Modes(rotation, shift, score, torch.linalg.inv(fisher + prior))


def _shorten(step: Tensor, longest: float) -> Tensor:
    return step * (longest / step.norm(dim=-1, keepdim=True).clamp(min=longest))
