"""Whether the map of poses that are given has the symmetry that is given with them, on the same axes."""

import torch
from torch import Tensor

from cryoloom.physics.fourier import crossing_shell, fourier_shell_correlation
from cryoloom.physics.pose import Pose
from cryoloom.physics.rigid import apply_to_volume, without_round_part
from cryoloom.solve.em.known import insert_at_poses
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.scope import Scope
from cryoloom.solve.session import Session

STAGE = "symmetry of the poses"
# Resolution elements across the molecule that are compared, and below which a map shows nothing but its outline.
_CYCLES, _OUTLINE = 14.0, 4.0
# Elements of a large group that are tried.
_TRIED = 12
# Signal-to-noise ratio of the filter of the two maps: much finer detail counts for nothing in a mean over shells.
_SSNR = 1.0


def record_given_symmetry(
    images: WorkingImages, halves: tuple[Tensor, Tensor], poses: Pose, scope: Scope, session: Session
) -> None:
    """Compare two half-maps, made without the symmetry, with each other and with each other turned by its elements.

    Writes a line of metrics.jsonl, "plain" and "turned" being mean FSCs over the finer half of the shells where the
    half-maps agree above 0.5, the lowest of all elements. Nothing is written without symmetry, or where fewer than 4
    resolution elements across the molecule agree.
    """
    if len(scope.group) == 1:
        return
    coarse = images.coarse(min(scope.band(_CYCLES, images.box), images.box / 2))
    scale = coarse.box / images.box
    one, noise = torch.eye(3, device=coarse.device)[None], first_noise(coarse)
    mask = soft_sphere(coarse.box, scope.radius_px * scale).to(coarse.device)
    filtered = torch.full((coarse.box // 2,), _SSNR, device=coarse.device)
    a, b = (
        without_round_part(insert_at_poses(coarse, half, poses, noise, one, session.team).volume(filtered) * mask)
        for half in halves
    )
    plain = fourier_shell_correlation(a, b)
    last = int(crossing_shell(plain, 0.5))
    if scope.scaled(scale).cycles(last, coarse.box) < _OUTLINE:
        return
    shells = slice((last + 1) // 2, last + 1)
    elements = scope.group[1:][torch.linspace(0, len(scope.group) - 2, min(_TRIED, len(scope.group) - 1)).long()]
    turned = [float(fourier_shell_correlation(a, apply_to_volume(b, element))[shells].mean()) for element in elements]
    if session.team.leads:
        session.run.record(stage=STAGE, plain=round(float(plain[shells].mean()), 4), turned=round(min(turned), 4))
