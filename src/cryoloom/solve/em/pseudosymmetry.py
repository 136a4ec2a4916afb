"""Approximate symmetries of a map: rotations that a search mistakes for one another."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cryoloom.physics.alignment import refine_volume
from cryoloom.physics.fourier import FrequencyLattice, fourier_shell_correlation, shift_phases
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.rigid import MIRROR, mirror_volume, without_round_part
from cryoloom.physics.so3 import RotationGrid, angular_distance, matrix_from_rotvec, random_rotations
from cryoloom.solve.em.independent import flattened
from cryoloom.solve.em.masks import low_pass

VIEWS = 24
COARSE_BAND, BAND = 5.0, 8.0
LEAST_CORRELATION = 0.7
LEAST_DEGREES = 25.0
MOST_COPIES = 12


@dataclass(frozen=True)
class Copies:
    """Rotations (m, 3, 3) about `centre` (3,) px, (x, y, z) from the box centre, that nearly leave a map as it is.

    correlation: (m,) of the map with its turned copy, mean over shells. None at all for most molecules.
    """

    rotation: Tensor
    centre: Tensor
    correlation: Tensor

    @classmethod
    def none(cls) -> "Copies":
        """No approximate symmetry."""
        return cls(torch.zeros(0, 3, 3), torch.zeros(3), torch.zeros(0))

    def __len__(self) -> int:
        return len(self.rotation)

    def beyond(self, group: Tensor) -> "Copies":
        """Those that are not among the exact symmetries `group` (n, 3, 3)."""
        apart = angular_distance(self.rotation[:, None], group).amin(1) > 5 if len(self) else torch.zeros(0).bool()
        return Copies(self.rotation[apart], self.centre, self.correlation[apart])

    def poses(self, rotation: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (B, 3, 3) and (B, 2) px and their copies, (B, 1 + m, …): R g, with the centre kept where it appears.

        The centre c lies at (R c)_xy + t in the image, so that t′ = t + (R c − R g c)_xy.
        """
        every = torch.cat([torch.eye(3)[None], self.rotation]).to(rotation)
        turned = rotation[:, None] @ every
        centre = turned @ self.centre.to(rotation)
        return turned, shift[:, None] + (centre[:, :1] - centre)[..., :2]


def find_copies(volume: Tensor, band: float) -> Copies:
    """Approximate symmetries of a masked map (D, D, D) known to `band` px: peaks of its rotational self-correlation.

    A peak must stand alone: rotations all around it agree clearly less, which no flank of the peak at no rotation does.
    """
    band = min(BAND, band)
    coarse, fine = (_SelfCorrelation(volume, b) for b in (min(COARSE_BAND, band), band))
    grid = RotationGrid(2).rotations().to(volume.device)
    identity = torch.eye(3, device=volume.device)
    grid = grid[angular_distance(grid, identity) > LEAST_DEGREES]
    value = coarse(grid)
    peaks: list[Tensor] = []
    for at in value.argsort(descending=True).tolist():
        if float(value[at]) < LEAST_CORRELATION / 2 or len(peaks) == 2 * MOST_COPIES:
            break
        if all(float(angular_distance(grid[at], other)) > 20 for other in peaks):
            peaks.append(grid[at])
    kept: list[Tensor] = []
    for peak in peaks:
        rotation = _climb(fine, _climb(coarse, peak, (4.0, 4.0, 2.0, 2.0)), (2.0, 1.0, 0.5, 0.25))
        apart = [float(angular_distance(rotation, other)) for other in (identity, *kept)]
        if apart[0] > LEAST_DEGREES and min(apart) > 10 and _stands_alone(fine, rotation, band):
            kept.append(rotation)
    if not kept:
        return Copies.none()
    found = torch.stack(kept[:MOST_COPIES])
    return Copies(found.cpu(), fine.centre.cpu(), fine(found).cpu())


def mirror_correlation(volume: Tensor, band: float) -> float:
    """Largest correlation of a masked map (D, D, D), known to `band` px, with its reflection in any plane, over shells.

    The reflection in the plane of normal n through the centre is V(−R x), R the half turn about n, and its transform
    conj V̂(R k). A molecule's own is small; one that a network has learnt from one side only is its own mirror image.
    """
    return float(_SelfCorrelation(volume, min(BAND, band), mirrored=True)(_half_turns(volume.device)).max())


def mirror_agreement(volume: Tensor, band: float) -> float:
    """Mean FSC of a masked map (D, D, D) with its own mirror image, over the finer half of `band` px, round part aside.

    The mirror plane is the best at low resolution, refined on all shells. Octahedral and icosahedral molecules have no
    hand at low resolution, and a mixture of both hands explains images well there: its mirror image is itself.
    """
    flat = flattened(without_round_part(volume), band)
    half_turns = _half_turns(volume.device)
    best = half_turns[_SelfCorrelation(volume, min(BAND, band), mirrored=True)(half_turns).argmax()].cpu()
    # Reflection −R is the mirror image V(M x) turned by −R M.
    placed = refine_volume(mirror_volume(flat), flat, -best @ MIRROR, False, torch.zeros(3))
    return float(fourier_shell_correlation(placed.volume, flat)[int(band / 2) : int(band) + 1].mean())


def _half_turns(device: torch.device) -> Tensor:
    """Half turns (n, 3, 3) about the directions of a 7.5° grid over half a sphere."""
    grid = RotationGrid(3)
    normal = grid.rotations(torch.arange(0, len(grid), grid.n_inplane))[:, 2].to(device)
    normal = normal[normal[:, 2] >= 0]
    return 2 * normal[:, :, None] * normal[:, None] - torch.eye(3, device=device)


def _centre(volume: Tensor, band: float) -> Tensor:
    """Centre of mass (3,) = (x, y, z) of the squared map up to `band`, from the box centre: it knows no sign."""
    weight = low_pass(volume, band).square()
    axis = torch.arange(volume.shape[-1], device=volume.device, dtype=volume.dtype) - volume.shape[-1] // 2
    total = weight.sum().clamp(min=1e-30)
    return torch.stack([(weight.sum(dims) * axis).sum() / total for dims in ((0, 1), (0, 2), (1, 2))])


class _SelfCorrelation:
    """Correlation of a map with itself turned by g, mean over shells: slices at R against slices at R g for some R.

    mirrored: with the turned map inverted through the centre, whose transform is the conjugate.
    """

    def __init__(self, volume: Tensor, band: float, mirrored: bool = False):
        self.mirrored = mirrored
        self.projector = FourierSlice.of_volume(volume, 2, band + 1)
        whole = FrequencyLattice.of_box(volume.shape[-1], volume.device)
        self.lattice, self.centre = whole.prefix(band), _centre(volume, band)
        self.views = random_rotations(VIEWS, torch.Generator().manual_seed(0)).to(volume.device)
        plain = self._slices(self.views)
        # Shells count alike: at low frequency every molecule is a ball.
        self.weight = self._shell_weight(plain)
        self.plain = plain * self.weight

    def _slices(self, rotation: Tensor) -> Tensor:
        """Slices (n, P) of the map moved so that its centre of mass is the origin."""
        slices = self.projector.project(rotation, self.lattice)
        centre = (rotation @ self.centre)[:, :2]
        return slices * shift_phases(self.lattice.k, -centre, self.lattice.box)

    def _shell_weight(self, plain: Tensor) -> Tensor:
        power = self.lattice.from_shells(self.lattice.shell_mean(plain.abs().square().mean(0)))
        shell = self.lattice.radius.round().long()
        count = torch.bincount(shell)[shell]
        inside = self.lattice.radius >= 1.5
        return torch.where(inside, 1 / (power * count).clamp(min=1e-30).sqrt(), 0.0)

    def __call__(self, rotation: Tensor, size: int = 2048) -> Tensor:
        """Correlation (n,) of rotations g (n, 3, 3)."""
        found = []
        for part in rotation.split(size):
            turned = self._slices((self.views[None] @ part[:, None]).flatten(0, 1)) * self.weight
            turned = turned.view(len(part), VIEWS, -1)
            turned = turned.conj() if self.mirrored else turned
            cross = (self.plain.conj() * turned).real.sum((1, 2))
            norm = (self.plain.abs().square().sum() * turned.abs().square().sum((1, 2))).sqrt()
            found.append(cross / norm)
        return torch.cat(found)


def _around(rotation: Tensor, degrees: float) -> Tensor:
    """`rotation` (3, 3) and 26 more, turned by about `degrees` in every direction: (27, 3, 3), itself in the middle."""
    axis = torch.tensor([-1.0, 0.0, 1.0], device=rotation.device)
    return matrix_from_rotvec(torch.deg2rad(torch.cartesian_prod(axis, axis, axis) * degrees)) @ rotation


def _climb(correlate: _SelfCorrelation, rotation: Tensor, steps_deg: tuple[float, ...]) -> Tensor:
    """The local maximum of the self-correlation next to `rotation` (3, 3), by steps that grow smaller."""
    for degrees in steps_deg:
        near = _around(rotation, degrees)
        rotation = near[correlate(near).argmax()]
    return rotation


def _stands_alone(correlate: _SelfCorrelation, rotation: Tensor, band: float) -> bool:
    value = correlate(_around(rotation, 80 / band))
    height = float(value[13])
    return height > LEAST_CORRELATION and float(torch.cat([value[:13], value[14:]]).max()) < 0.9 * height
