"""The one global rotation and handedness that no data can tell, found between two sets of poses."""

from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.physics.rigid import mirror_rotation
from cryoloom.physics.so3 import angular_distance


@dataclass(frozen=True)
class Alignment:
    """How poses of one reconstruction go over into the frame of another: `R_true ≈ apply(R_est)`.

    rotation: (3, 3), Q in `R_est ≈ R_true Q`; it turns the estimated map onto the true one. hand_flipped: the estimated
    map is the mirror image. angle_deg, frobenius_sq: (N,) error of each particle, degrees and ‖R − R̂‖²_F, the smallest
    over the point group. agreement: in [0, 1], how much of the particles agrees with the alignment.
    """

    rotation: Tensor
    hand_flipped: bool
    angle_deg: Tensor
    frobenius_sq: Tensor
    agreement: float

    def apply(self, rotation: Tensor) -> Tensor:
        """Estimated rotations (…, 3, 3) in the true frame: `R Qᵀ`, or `M R M Qᵀ` where the hand is flipped."""
        rotation = mirror_rotation(rotation) if self.hand_flipped else rotation
        return rotation @ self.rotation.T.to(rotation)


def _relative(estimated: Tensor, true: Tensor, group: Tensor) -> Tensor:
    """(R_true g)ᵀ R_est, (N, G, 3, 3): what Q would be if each particle alone decided."""
    return torch.einsum("gji,njk->ngik", group, true.mT @ estimated)


def _angles(relative: Tensor, rotation: Tensor) -> Tensor:
    """Angle in degrees (N, G, C) between relative rotations (N, G, 3, 3) and candidates (C, 3, 3)."""
    trace = relative.flatten(2) @ rotation.flatten(1).T
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def _kernel(angle: Tensor) -> Tensor:
    """A robust vote of an angle in degrees: a sharp term that finds the exact rotation, a wide one for coarse poses."""
    return (torch.exp(-((angle / 5) ** 2)) + torch.exp(-((angle / 20) ** 2))) / 2


def _best_rotation(estimated: Tensor, true: Tensor, group: Tensor) -> tuple[Tensor, float]:
    """The rotation Q (3, 3) with most votes, and its mean vote."""
    n, relative = len(estimated), _relative(estimated, true, group)
    # Evenly spaced particles propose and judge: deterministic, and enough to find two inliers in a hundred.
    proposers = torch.linspace(0, n - 1, min(n, 512)).long()
    judges = torch.linspace(0, n - 1, min(n, max(256, 4096 // len(group)))).long()
    candidates = relative[proposers, 0]
    votes = torch.cat([_kernel(_angles(relative[judges], part).amin(1)).mean(0) for part in candidates.split(64)])
    rotation = candidates[votes.argmax()]
    for _ in range(10):
        angle, g = _angles(relative, rotation[None])[..., 0].min(1)
        inlier = angle < 30
        width = max(3 * float(angle[inlier].median()), 0.01) if inlier.any() else 30.0
        weight = torch.exp(-((angle / width) ** 2)) * inlier
        if not weight.any():
            break
        rotation = torch.as_tensor(
            roma.special_procrustes((weight[:, None, None] * relative[torch.arange(n), g]).sum(0))
        )
    return rotation, float(_kernel(_angles(relative, rotation[None]).amin(1)).mean())


def align_poses(estimated: Tensor, true: Tensor, group: Tensor | None = None) -> Alignment:
    """The global rotation and hand that bring estimated rotations (N, 3, 3) onto true ones, whatever the outliers.

    `R_est ≈ R_true g Q` (`x_image = R x_volume`: a turn of the volume acts on the right), g any element of the true
    map's point group (G, 3, 3); the mirror image has `M R_est M`. Candidates `R_trueᵢᵀ R_estᵢ` of single particles are
    judged by a robust vote of all, the best one is refined by chordal means of its inliers. Deterministic.
    Raises InputError without particles or for unequal numbers.
    """
    if len(estimated) != len(true) or len(true) == 0:
        raise InputError(
            f"Poses are compared particle by particle, but there are {len(estimated)} estimated and {len(true)} true "
            "ones; give two sets of the same particles."
        )
    est, ref = estimated.double(), true.double()
    group = torch.eye(3, dtype=torch.float64)[None] if group is None else group.double()
    hands = [_best_rotation(hand, ref, group) for hand in (est, mirror_rotation(est))]
    flipped = hands[1][1] > hands[0][1]
    rotation, agreement = hands[flipped]
    aligned = (mirror_rotation(est) if flipped else est) @ rotation.T
    copies = ref[:, None] @ group
    frobenius_sq = (aligned[:, None] - copies).square().sum((-2, -1)).amin(1)
    angle = angular_distance(aligned[:, None], copies).amin(1)
    return Alignment(rotation.float(), bool(flipped), angle.float(), frobenius_sq.float(), agreement)
