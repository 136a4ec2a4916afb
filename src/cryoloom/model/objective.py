"""The data term: how far predicted slices are from the images, over the hypotheses of each particle."""

from typing import NamedTuple

import torch
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence


class Misfit(NamedTuple):
    """Of each of B particles at its best hypothesis: total (B,), by coefficient (B, P), and which it was (B,)."""

    total: Tensor
    by_coefficient: Tensor
    best: Tensor


# Half the inverse variance of an image's scale about 1: what normalisation leaves open is some per cent.
SCALE_PRIOR = 0.5 / 0.1**2


def image_scale(slices: Tensor, moved: Tensor, power: Tensor) -> Tensor:
    """The most likely scale a (..., 1) of each image: min over a of Σ|C a F − y|²/σ² + (a − 1)²/2s², s = 0.1.

    slices F, moved e^{2πi k·t} C y/σ²: (..., P) complex; power C²/σ²: (..., P); the origin counts nothing.
    """
    cross = (slices.real * moved.real + slices.imag * moved.imag)[..., 1:].sum(-1, keepdim=True)
    own = (power * slices.abs().square())[..., 1:].sum(-1, keepdim=True)
    return (cross + SCALE_PRIOR) / (own + SCALE_PRIOR)


def least_misfit(slices: Tensor, shift_px: Tensor, evidence: Evidence, scaled: bool = False) -> Misfit:
    """Noise-weighted squares, `min_k Σ|C · e^{−2πi k·t} · F_k − y|² / σ²`, over K hypotheses.

    slices F: (B, K, P) complex; shift_px t: (B, K, 2). Written out with the evidence of the images, so that the CTF and
    the shift act on the image: C²|F|²/σ² − 2 Re⟨e^{2πi k·t} C y/σ², F⟩ + |y|²/σ². The origin counts nothing: a mean
    grey value says nothing after normalisation. Levy et al. 2022, eq. 10, for the minimum. scaled: every image at
    its own most likely scale, so that conformations need not say it.
    """
    moved = evidence.centred(shift_px)
    if scaled:
        # At its minimum the scale has no gradient of its own.
        slices = slices * image_scale(slices.detach(), moved, evidence.power[:, None])
    cross = slices.real * moved.real + slices.imag * moved.imag
    power = evidence.power[:, None] * (slices.real**2 + slices.imag**2)
    squares = power - 2 * cross + evidence.image_power[:, None]
    squares = torch.cat([torch.zeros_like(squares[..., :1]), squares[..., 1:]], -1)
    total, best = squares.sum(-1).min(1)
    chosen = squares.gather(1, best[:, None, None].expand(-1, 1, squares.shape[-1]))[:, 0]
    return Misfit(total, chosen.detach(), best)
