"""Poses along a movie: a molecule turns by little from frame to frame, so that its frames speak for each other.

Ours. Of two frames that lie g apart, p(R′ | R) ∝ exp(−θ² / 2 g s²), θ the angle between R and R′: rotational diffusion,
of which s is the tumbling, radians along each axis in one frame.
"""

import math

import numpy as np
import roma
import torch
from torch import Tensor

from cryoloom.model.movie_grid import MovieGrid
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec

# Frames before and after a frame whose poses are tried on it, too.
REACH = 2
# A quarter of all χ² of three degrees of freedom are below this. That quarter is right though most poses are wrong.
_QUARTER = 1.213
_LAGS = 4
_MOST_APART = math.radians(40)
_LEAST_TUMBLING = math.radians(0.25)


def tumbling(rotation: Tensor, grid: MovieGrid) -> float:
    """The s, radians, by which molecules turn from frame to frame, from best poses (B, 3, 3).

    Poses that are off by σ along each axis lie θ² ~ (g s² + 2σ²) χ²₃ apart after g frames: s² is the slope over g. inf
    where frames tell each other next to nothing, as they lie too far apart or are single.
    """
    flat = grid.filled(rotation.flatten(1)).unflatten(-1, (3, 3))
    place = grid.gap.cumsum(1)
    apart, square = [], []
    for lag in range(1, min(_LAGS, flat.shape[1] - 1) + 1):
        known = torch.arange(lag, flat.shape[1]) < grid.lengths[:, None]
        angles = torch.deg2rad(angular_distance(flat[:, lag:], flat[:, :-lag]))[known]
        if len(angles):
            apart.append(float((place[:, lag:] - place[:, :-lag])[known].mean()))
            square.append(float(angles.square().quantile(0.25)) / _QUARTER)
    if not apart or square[0] > _MOST_APART**2:
        return math.inf
    # One distance alone does not tell errors from turns.
    slope = np.polyfit(apart, square, 1)[0] if len(apart) > 1 else square[0] / apart[0]
    return math.sqrt(max(float(slope), _LEAST_TUMBLING**2))


def beside(rotation: Tensor, grid: MovieGrid) -> Tensor:
    """Rotations (B, 3, 3) of each frame, and of up to `REACH` frames before and after it: (B, 1 + 2 REACH, 3, 3).

    Its own is the first. Where a movie has ended its last frame stands in.
    """
    flat = grid.filled(rotation.flatten(1))
    found = []
    for step in sorted(range(-REACH, REACH + 1), key=abs):
        column = (grid.column + step).clamp(min=0).minimum(grid.lengths[grid.row] - 1)
        found.append(flat[grid.row, column])
    return torch.stack(found, 1).unflatten(-1, (3, 3))


def along_movies(log_weight: Tensor, rotation: Tensor, grid: MovieGrid, s: float) -> Tensor:
    """Posterior (B, K) of modes (B, K, 3, 3) of log weights (B, K), given all frames of a movie (forward–backward)."""
    modes = grid.filled(rotation.flatten(1)).unflatten(-1, (-1, 3, 3))
    alone = grid.filled(log_weight)
    spread = 2 * s * s * grid.gap[:, :, None, None]
    pairs = [-_squares(modes[:, t - 1], modes[:, t]) / spread[:, t] for t in range(1, alone.shape[1])]
    forward, backward = [alone[:, 0]], [torch.zeros_like(alone[:, 0])]
    for t, pair in enumerate(pairs):
        forward.append(alone[:, t + 1] + (forward[-1][:, :, None] + pair).logsumexp(1))
    there = torch.arange(alone.shape[1]) < grid.lengths[:, None]
    for t, pair in reversed(list(enumerate(pairs))):
        later = (pair + (alone[:, t + 1] + backward[-1])[:, None]).logsumexp(2)
        # Past a movie's end there is nothing that speaks.
        backward.append(torch.where(there[:, t + 1, None], later, 0.0))
    whole = torch.stack(forward, 1) + torch.stack(backward[::-1], 1)
    return torch.softmax(grid.read(whole), -1)


def drawn_together(rotation: Tensor, covariance: Tensor, grid: MovieGrid, s: float) -> tuple[Tensor, Tensor]:
    """Most likely rotations (B, 3, 3) and their covariance (B, 3, 3), given those of each frame alone.

    A Kalman smoother on rotation vectors about the given rotations: for a turn d from frame to frame,
    `ω′ = exp(d) ω − d + N(0, g s² I)`. covariance: of rotation vectors in the image's frame, radians².
    """
    flat = grid.filled(rotation.flatten(1)).unflatten(-1, (3, 3))
    given = grid.filled(covariance.flatten(1)).unflatten(-1, (3, 3))
    turned, known = _turned(flat, grid)
    length, eye = flat.shape[1], torch.eye(3)
    means, widths, expected = [torch.zeros(len(flat), 3, 1)], [given[:, 0]], []
    for t in range(length - 1):
        turn = matrix_from_rotvec(turned[:, t])
        mean = turn @ means[-1] - turned[:, t, :, None]
        width = turn @ widths[-1] @ turn.transpose(1, 2) + grid.gap[:, t + 1, None, None] * s * s * eye
        expected.append((turn, mean, width))
        # Where a movie has ended nothing is seen, and what is expected stays.
        seen = given[:, t + 1] + (~known[:, t, None, None]) * 1e6 * eye
        gain = torch.linalg.solve(width + seen, width).transpose(1, 2)
        means.append(mean - gain @ mean)
        widths.append((eye - gain) @ width)
    for t in reversed(range(length - 1)):
        turn, mean, width = expected[t]
        back = torch.linalg.solve(width, turn @ widths[t]).transpose(1, 2)
        means[t] = means[t] + back @ (means[t + 1] - mean)
        widths[t] = widths[t] + back @ (widths[t + 1] - width) @ back.transpose(1, 2)
    moved = grid.read(torch.stack(means, 1)[..., 0])
    return matrix_from_rotvec(moved) @ rotation, grid.read(torch.stack(widths, 1))


def _turned(rotation: Tensor, grid: MovieGrid) -> tuple[Tensor, Tensor]:
    """Rotation vectors (M, T − 1, 3) from each frame to the next, and where (M, T − 1) both are there."""
    known = torch.arange(1, rotation.shape[1]) < grid.lengths[:, None]
    step = rotation[:, 1:] @ rotation[:, :-1].transpose(-1, -2)
    return roma.rotmat_to_rotvec(torch.where(known[..., None, None], step, torch.eye(3))), known


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared angles (M, K, K) between rotations a and b (M, K, 3, 3), radians²."""
    cosine = (torch.einsum("mkij,mlij->mkl", a, b) - 1) / 2
    return torch.acos(cosine.clamp(-1, 1)).square()
