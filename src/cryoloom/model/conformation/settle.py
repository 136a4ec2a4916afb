"""The conformation of each particle at a field that is known: a search among candidates, then Newton steps."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.model.objective import image_scale
from cryoloom.model.poses.evidence import Evidence

Render = Callable[[Tensor], Tensor]

# Differences of single precision: small beside a posterior's width, large beside rounding.
_DIFFERENCE = 0.02
_LONGEST_STEP = 1.0


class Settled(NamedTuple):
    """Of B particles: mean and log variance (B, Z) of the Gaussian at the posterior's mode (Laplace)."""

    mean: Tensor
    log_var: Tensor


class _Place(NamedTuple):
    """Candidates z (B, Z) with their slices (B, P) and prices (B,): misfit + β |z|²/2, up to a constant."""

    z: Tensor
    slices: Tensor
    price: Tensor

    def better(self, other: "_Place") -> tuple["_Place", Tensor]:
        """The cheaper of two for each particle, and where (B,) it is the other."""
        won = other.price < self.price
        parts = [
            torch.where(won.view(-1, *(1,) * (mine.dim() - 1)), its, mine)
            for mine, its in zip(self, other, strict=True)
        ]
        return _Place(*parts), won


def settle(
    render: Render, evidence: Evidence, shift_px: Tensor, candidates: Tensor, beta: float, steps: int
) -> Settled:
    """Minimise `Σ C²|F(z)|²/σ² − 2 Re⟨e^{2πi k·t} C y/σ², F(z)⟩ + β |z|²/2` over z, particle by particle.

    render: z (B, Z) → slices F (B, P) at the particles' poses; shift_px t: (B, 2); candidates: (B, K, Z). The best
    candidate is followed by `steps` damped Gauss–Newton steps, whose derivatives of F are differences. Each image
    has a scale of its own, `image_scale`.
    """
    moved = evidence.centred(shift_px)

    def scaled(z: Tensor) -> Tensor:
        slices = render(z)
        return slices * image_scale(slices, moved, evidence.power)

    def place(z: Tensor) -> _Place:
        slices = scaled(z)
        fits = evidence.power * slices.abs().square() - 2 * _dot(slices, moved)
        # The mean grey value says nothing after normalisation.
        return _Place(z, slices, fits[:, 1:].sum(1) + 0.5 * beta * z.square().sum(1))

    here = place(candidates[:, 0])
    for i in range(1, candidates.shape[1]):
        here, _ = here.better(place(candidates[:, i]))
    damping = here.price.new_full(here.price.shape, 1e-2)
    for _ in range(steps):
        gradient, curvature = _slope(scaled, evidence, moved, here, beta)
        system = curvature + torch.diag_embed(damping[:, None] * curvature.diagonal(dim1=1, dim2=2))
        step = torch.linalg.solve(system, gradient[..., None])[..., 0]
        step = step * (_LONGEST_STEP / step.norm(dim=1, keepdim=True).clamp(min=_LONGEST_STEP))
        here, won = here.better(place(here.z - step))
        damping = torch.where(won, damping * 0.1, damping * 10).clamp(1e-4, 1e4)
    _, curvature = _slope(scaled, evidence, moved, here, beta)
    variance = torch.linalg.inv(curvature).diagonal(dim1=1, dim2=2)
    return Settled(here.z, variance.clamp(min=1e-8).log())


def _slope(render: Render, evidence: Evidence, moved: Tensor, here: _Place, beta: float) -> tuple[Tensor, Tensor]:
    """Gradient (B, Z) and Gauss–Newton curvature (B, Z, Z) of the price."""
    z_dim = here.z.shape[1]
    axes = torch.eye(z_dim, device=here.z.device) * _DIFFERENCE
    jacobian = torch.stack([(render(here.z + axis) - here.slices)[:, 1:] / _DIFFERENCE for axis in axes], 1)
    power = evidence.power[:, None, 1:]
    missed = power * here.slices[:, None, 1:] - moved[:, None, 1:]
    gradient = 2 * _dot(jacobian, missed).sum(-1) + beta * here.z
    pairs = torch.view_as_real(jacobian)
    curvature = 2 * torch.einsum("bipc,bjpc->bij", pairs * power[..., None], pairs)
    # Without a prior, β = 0, a direction that changes nothing would have no width.
    return gradient, curvature + max(beta, 1e-3) * torch.eye(z_dim, device=here.z.device)


def signal_sigma(slices: Tensor, evidence: Evidence, shift_px: Tensor) -> Tensor:
    """By how many standard deviations (B,) of pure noise images agree with slices (B, P): Re⟨y, C F⟩/σ² over its width.

    Of an image without a particle it is a standard normal number, at a slice that was not fitted to it.
    """
    cross = _dot(slices, evidence.centred(shift_px))[:, 1:].sum(1)
    width = (0.5 * evidence.power * slices.abs().square())[:, 1:].sum(1).sqrt()
    return cross / width.clamp(min=1e-6)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a.real * b.real + a.imag * b.imag
