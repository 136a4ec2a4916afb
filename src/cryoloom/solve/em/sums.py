"""The M-step: posterior-weighted slices summed in a Fourier grid, and the volume that they determine."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.project import backproject, grid_extent, hermitian, volume_of_grid
from cryoloom.solve.team import Team

PAD = 2


@dataclass
class SliceSums:
    """Numerator Σ w C y / σ² and denominator Σ w C² / σ² of a volume on a half-space grid, sampled PAD times finer."""

    numerator: Tensor
    denominator: Tensor
    box: int
    band: float
    group: Tensor

    @classmethod
    def zeros(cls, box: int, band: float, group: Tensor, device: torch.device | str = "cpu") -> "SliceSums":
        """Empty sums for a `box`³ volume up to `band` Fourier pixels, with the symmetry of a point group (n, 3, 3)."""
        m = grid_extent(band, PAD)
        shape = (2 * m + 1, 2 * m + 1, m + 1)
        numerator = torch.zeros(shape, dtype=torch.complex64, device=device)
        return cls(numerator, torch.zeros(shape, device=device), box, band, group.to(device))

    def add(self, spectra: Tensor, power: Tensor, rotations: Tensor, lattice: FrequencyLattice) -> None:
        """Insert slices: spectra (R, P) and power (R, P) at rotations (R, 3, 3) and at their symmetry mates R·g.

        Mates by turns that take the grid onto itself are added by `volume`, once for all slices.
        """
        for element in cosets(self.group):
            numerator, denominator = backproject(spectra, power, rotations @ element, lattice, PAD, self.band)
            self.numerator += numerator
            self.denominator += denominator

    def add_particles(self, evidence: Evidence, rotation: Tensor, shift: Tensor, weight: Tensor) -> None:
        """Insert images at K hypotheses each, (B, K, 3, 3) and (B, K, 2) px, with posterior weights (B, K)."""
        particle, mode = torch.nonzero(weight > 1e-3, as_tuple=True)
        w = weight[particle, mode][:, None]
        part = evidence.select(particle)
        self.add(part.centred(shift[particle, mode]) * w, part.power * w, rotation[particle, mode], evidence.lattice)

    def scaled(self, factor: float) -> "SliceSums":
        """The sums times a factor: how momentum forgets."""
        return replace(self, numerator=self.numerator * factor, denominator=self.denominator * factor)

    def __add__(self, other: "SliceSums") -> "SliceSums":
        """Sums over both sets of particles."""
        return replace(
            self, numerator=self.numerator + other.numerator, denominator=self.denominator + other.denominator
        )

    def all_reduced(self, team: Team) -> "SliceSums":
        """Sums over the processes of a team."""
        numerator, denominator = team.add([self.numerator, self.denominator])
        return replace(self, numerator=numerator, denominator=denominator)

    def shell_index(self) -> Tensor:
        """Shell in Fourier pixels of each grid point."""
        m = self.numerator.shape[-1] - 1
        axis = torch.arange(-m, m + 1, device=self.numerator.device) / PAD
        radius2 = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, m:] ** 2
        return radius2.sqrt().round().long().clamp(max=self.box // 2)

    def _symmetrised(self, half: Tensor) -> Tensor:
        """A half-space grid (2M+1, 2M+1, M+1) with its mates by `grid_turns`: S(p) = Σ_h G(h p)."""
        turns = grid_turns(self.group)
        if len(turns) == 1:
            return half
        full = torch.cat([half[..., 1:].flip((0, 1, 2)).conj(), half], -1).resolve_conj()
        total = torch.zeros_like(full)
        for turn in turns:
            # p′ = h p: coordinate i of p′ is ± coordinate source[i] of p; axes of the grid are z, y, x.
            source = turn.abs().argmax(1).tolist()
            mirrored = [2 - i for i in range(3) if float(turn[i, source[i]]) < 0]
            total += full.flip(mirrored).permute([2 - source.index(2 - axis) for axis in range(3)])
        return total[..., half.shape[-1] - 1 :].contiguous()

    def volume(self, ssnr: Tensor) -> Tensor:
        """MAP volume (D, D, D): numerator / (denominator + λ), λ = mean denominator of the shell / its SSNR (D/2,).

        With SSNR = FSC / (1 − FSC) this is the Wiener filter of the radial signal prior.
        """
        numerator, denominator = (self._symmetrised(hermitian(part)) for part in (self.numerator, self.denominator))
        shell = self.shell_index()
        size = self.box // 2 + 1
        total = torch.zeros(size, device=shell.device).index_add_(0, shell.flatten(), denominator.flatten())
        mean = total / torch.bincount(shell.flatten(), minlength=size).clamp(min=1)
        ratio = torch.cat([ssnr.to(mean), ssnr.new_zeros(1).to(mean)]).clamp(1e-6, 1e4)
        prior = mean / ratio + 1e-4 * mean + 1e-12 * mean.max() + 1e-30
        weight = torch.where(shell <= self.band, 1.0, 0.0)
        return volume_of_grid(numerator * weight / (denominator + prior[shell]), self.box, PAD)


def grid_turns(group: Tensor) -> Tensor:
    """The elements (h, 3, 3) of a point group that only exchange and reverse axes: they take a grid onto itself."""
    return group[(group.abs() > 0.999).sum((1, 2)) == 3].round()


def cosets(group: Tensor) -> Tensor:
    """Elements k of a point group, one from each coset k·H of its subgroup H of `grid_turns`; the identity first."""
    turns = grid_turns(group)
    kept: list[Tensor] = []
    for element in group:
        mates = element @ turns
        if all(float((mates - other).abs().amax((1, 2)).min()) > 1e-3 for other in kept):
            kept.append(element)
    return torch.stack(kept)
