"""Ab initio by stochastic expectation-maximisation: from random orientations to a low-resolution map."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.shifts import ShiftBasis, shift_disc, shift_log_prior, shift_step
from cryoloom.model.poses.templates import Templates, posterior_sums
from cryoloom.physics.fourier import FrequencyLattice, crossing_shell, fourier_shell_correlation
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import RotationGrid, asymmetric_unit, random_rotations
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.em.sums import PAD, SliceSums
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.team import Team


class AbInitioSettings(BaseModel, extra="forbid"):
    """Stochastic EM from nothing: how many particles an iteration, how far the band marches."""

    batch_size: int = Field(default=500, gt=1, description="Particles drawn for each iteration.")
    iterations: int = Field(
        default=70, gt=0, description="Iterations after which the search stops even if the map still improves."
    )
    starts: int = Field(
        default=4, gt=0, description="Most random starts; stops when two agree, and keeps the most likely map."
    )
    first_band: float = Field(default=4.5, gt=1, description="Band limit of the first iteration, in Fourier pixels.")
    last_band: float = Field(default=7.0, gt=1, description="Band limit beyond which local refinement takes over.")
    growth: float = Field(
        default=0.07, gt=0, description="Most that the band may grow in an iteration, in Fourier pixels."
    )
    momentum: float = Field(default=0.85, ge=0, lt=1, description="Share of the previous sums kept in each iteration.")
    first_temper: float = Field(
        default=0.15, gt=0, le=1, description="Exponent of the likelihood in the first iteration."
    )
    temper_iterations: int = Field(default=30, gt=0, description="Iterations until the likelihood counts in full.")
    angle_step: float = Field(default=15.0, gt=0, description="Spacing of the rotation grid, in degrees.")


@dataclass(frozen=True)
class AbInitioState:
    """What one iteration hands to the next.

    log_evidence, evidence_error: mean over the last batch's images, up to a constant, and its standard error.
    peaks: the mean largest posterior of each iteration.
    """

    iteration: int
    band: float
    noise: Tensor
    halves: tuple[SliceSums, SliceSums]
    volume: Tensor
    ssnr: Tensor
    log_evidence: float
    evidence_error: float
    peaks: tuple[float, ...]


class Told(NamedTuple):
    """What images say in an iteration, summed over them.

    residual: (P,) expected |y − C T|² / σ². log_evidence: (2,) sum and sum of squares of log p(y), up to a constant of
    the grid. peak: of the largest posteriors.
    """

    residual: Tensor
    log_evidence: Tensor
    peak: Tensor


# Assigns images, adds them into the sums of a map, and says how well they fit.
Expectation = Callable[[Evidence, SliceSums], Told]


class AbInitio:
    """One stochastic EM search over a set of images."""

    def __init__(
        self,
        images: WorkingImages,
        settings: AbInitioSettings,
        group: Tensor,
        shift_px: float,
        radius_px: float,
        team: Team,
    ):
        self.images, self.settings, self.group, self.team = images, settings, group, team
        self.shift_px = shift_px
        self.mask = soft_sphere(images.box, radius_px, device=images.device)
        self.last_band = min(settings.last_band, images.box / 2 - 1)

    def start(self, generator: torch.Generator) -> AbInitioState:
        """A first volume from a batch at random orientations."""
        index = self.draw(generator)
        noise = self.images.mean_power(index)
        band = min(self.settings.first_band, self.last_band)
        evidence = self.images.evidence(index, noise, band)
        halves = []
        for half in (slice(0, None, 2), slice(1, None, 2)):
            sums = SliceSums.zeros(self.images.box, self.last_band, self.group, self.images.device)
            part = evidence.select(half)
            rotations = random_rotations(len(part), generator).to(self.images.device)
            sums.add(part.weighted, part.power, rotations, part.lattice)
            halves.append(sums)
        ssnr = torch.ones(self.images.box // 2, device=self.images.device)
        volume = (halves[0] + halves[1]).volume(ssnr) * self.mask
        return AbInitioState(0, band, noise, (halves[0], halves[1]), volume, ssnr, -math.inf, 0.0, ())

    def draw(self, generator: torch.Generator) -> Tensor:
        """Indices of a random mini-batch; an even number, so that it splits into halves."""
        n = min(self.settings.batch_size, len(self.images)) // 2 * 2
        return torch.randperm(len(self.images), generator=generator)[:n]

    def step(self, state: AbInitioState, generator: torch.Generator) -> AbInitioState:
        """One iteration: assign a mini-batch softly to a randomly turned grid, update sums, noise, band and volume."""
        index = self.draw(generator)
        turn = random_rotations(1, generator)[0]
        lattice = self.images.lattice.prefix(state.band)
        expect = self._expectation(state, FourierSlice.of_volume(state.volume, PAD, self.last_band), turn)
        found, halves = [], []
        for part, old in zip((index[::2], index[1::2]), state.halves, strict=True):
            new = SliceSums.zeros(self.images.box, self.last_band, self.group, self.images.device)
            told = expect(self.images.evidence(self.team.share(part), state.noise, state.band), new)
            found.append(Told(*self.team.add(told)))
            halves.append(old.scaled(self.settings.momentum) + new.all_reduced(self.team))
        told = Told(*(a + b for a, b in zip(*found, strict=True)))
        noise = self._noise(state, lattice, told.residual / len(index))
        return self._maximise(replace(state, noise=noise), (halves[0], halves[1]), told, len(index))

    def _expectation(self, state: AbInitioState, projector: FourierSlice, turn: Tensor) -> Expectation:
        """All orientations of a grid, all shifts, each image softly: templates are rendered once for the iteration."""
        grid = RotationGrid.with_spacing(self.settings.angle_step).rotations() @ turn
        grid = grid[asymmetric_unit(grid, self.group)].to(self.images.device)
        templates = Templates.render(projector, grid, self.images.lattice.prefix(state.band))
        shifts = shift_disc(self.shift_px, min(shift_step(self.images.box, state.band), self.shift_px))
        shifts = shifts.to(self.images.device)
        log_prior = shift_log_prior(shifts, self.shift_px)
        basis = ShiftBasis.of_shifts(shifts, templates.lattice)

        def expect(evidence: Evidence, sums: SliceSums) -> Told:
            found = posterior_sums(templates, evidence, basis, log_prior, self._temper(state))
            sums.add(torch.view_as_complex(found.pairs.view(len(grid), -1, 2)), found.power, grid, evidence.lattice)
            cross = (found.pairs * templates.pairs).view(*templates.power.shape, 2).sum((0, 2))
            fit = (found.power * templates.power).sum(0) - 2 * cross
            return Told(evidence.image_power.sum(0) + fit, found.log_evidence, found.peak)

        return expect

    def _temper(self, state: AbInitioState) -> float:
        done = min(1.0, state.iteration / self.settings.temper_iterations)
        return self.settings.first_temper ** (1 - done)

    def converged(self, state: AbInitioState) -> bool:
        """Whether the band has arrived or stalled, the likelihood counts in full, and assignments sharpen no more."""
        s, window = self.settings, 4
        if state.iteration >= s.iterations:
            return True
        if state.iteration < s.temper_iterations + 2 * window:
            return False
        recent, before = sum(state.peaks[-window:]), sum(state.peaks[-2 * window : -window])
        return recent - before < 0.02 * window

    def _maximise(self, state: AbInitioState, halves: tuple[SliceSums, SliceSums], told: Told, n: int):
        flat = torch.full_like(state.ssnr, 1e4)
        maps = [half.volume(flat) * self.mask for half in halves]
        fsc = fourier_shell_correlation(*maps).to(flat).clamp(0.0, 0.999)
        # Two halves of the sums are half as many particles each as the volume is made of.
        ssnr = (2 * fsc / (1 - fsc)).clamp(min=0.02)
        volume = (halves[0] + halves[1]).volume(ssnr) * self.mask
        reach = crossing_shell(fsc[: int(state.band) + 1], 0.5) + 1.5
        band = min(max(state.band, min(reach, state.band + self.settings.growth)), self.last_band)
        lattice = self.images.lattice.prefix(state.band)
        log_noise = float(lattice.from_shells(state.noise)[1:].log().sum())
        mean, square = (float(part) / n for part in told.log_evidence)
        error = math.sqrt(max(square - mean**2, 0.0) / n)
        peaks = (*state.peaks, float(told.peak) / n)
        return AbInitioState(
            state.iteration + 1, band, state.noise, halves, volume, ssnr, mean - log_noise, error, peaks
        )

    @staticmethod
    def agree(a: AbInitioState, b: AbInitioState) -> bool:
        """Whether two searches explain the images equally well, within three standard errors of their last batches."""
        return abs(a.log_evidence - b.log_evidence) < 3 * math.hypot(a.evidence_error, b.evidence_error)

    def _noise(self, state: AbInitioState, lattice: FrequencyLattice, residual: Tensor) -> Tensor:
        """Noise power by shell (D/2,), half old, half from the images' mean residual (P,), in units of the old."""
        updated = state.noise.clone()
        n_shells = int(state.band)
        shell = lattice.shell_mean(residual * lattice.from_shells(state.noise))
        updated[1 : n_shells + 1] = shell[1 : n_shells + 1]
        return 0.5 * state.noise + 0.5 * updated.clamp(min=1e-6 * float(state.noise.max()))
