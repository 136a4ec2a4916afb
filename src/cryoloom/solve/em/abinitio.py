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
from cryoloom.solve.em.grids import STEPS, finest_step
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.em.sums import PAD, SliceSums
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.scope import Scope
from cryoloom.solve.team import Team

# Resolution elements across the molecule at which a grid of 1° begins to blur it: c = 75 / step.
_CYCLES_TIMES_DEGREES = 75.0
# Where searches begin. A band that shows too little leads to wrong maps, one that shows too much to none. Molecules of
# more copies than these have fewer features of their own, and begin one band or two further up.
_FIRST_CYCLES, _COPIES = (3.2, 4.4, 6.0), (6, 14)
_LAST_CYCLES = 10.0
# How far a search goes at least, as a factor of its first band.
_ON = 1.25
# Iterations at the first band after the likelihood counts in full.
_HOLD = 10


class AbInitioSettings(BaseModel, extra="forbid"):
    """Stochastic EM from nothing: how many particles an iteration, how far the band marches."""

    batch_size: int = Field(
        default=500, gt=1, description="Particles drawn for each iteration; fewer where the molecule is symmetric."
    )
    iterations: int = Field(
        default=110, gt=0, description="Iterations after which a search stops even if the map still improves."
    )
    starts: int = Field(
        default=3, gt=0, description="Most searches of each half-set; stops when two halves' maps agree."
    )
    first_maps: int = Field(
        default=3, gt=0, description="Random starts of the first search, of which the likeliest first map goes on."
    )
    first_resolution: float | None = Field(
        default=None, gt=0, description="Resolution of the first iteration, Å; else a third of the diameter, or finer."
    )
    last_resolution: float | None = Field(
        default=None, gt=0, description="Resolution at which the soft search ends, Å; else what its angles can tell."
    )
    growth: float = Field(default=0.012, gt=0, description="Part by which the band may grow in an iteration, at most.")
    momentum: float = Field(default=0.85, ge=0, lt=1, description="Share of the previous sums kept in each iteration.")
    first_temper: float = Field(
        default=0.15, gt=0, le=1, description="Exponent of the likelihood in the first iteration."
    )
    temper_iterations: int = Field(default=30, gt=0, description="Iterations until the likelihood counts in full.")

    @property
    def first_iterations(self) -> int:
        """Iterations at the first band."""
        return min(self.temper_iterations + _HOLD, self.iterations)


class Bands(NamedTuple):
    """First and last band of a search in Fourier pixels, and its finest angular step in degrees."""

    first: float
    last: float
    finest: float

    @classmethod
    def of(cls, settings: AbInitioSettings, scope: Scope, images: WorkingImages, attempt: int = 0) -> "Bands":
        """From resolutions in Å, or from the molecule's diameter and symmetry; each attempt begins at another band."""
        s, field_angst = settings, images.box * images.pixel_size
        begin = attempt + sum(len(scope.group) > copies for copies in _COPIES)
        cycles = _FIRST_CYCLES[begin % len(_FIRST_CYCLES)]
        first = max(field_angst / s.first_resolution if s.first_resolution else scope.band(cycles, images.box), 2.5)
        # Higher starts need finer angles than are tried at the first, and go on for a shorter way.
        far = _ON * scope.cycles(first, images.box)
        step = finest_step(scope.group)
        finest = min(step, next((d for d in STEPS if d * far <= _CYCLES_TIMES_DEGREES), STEPS[-1]))
        reach = min(max(_CYCLES_TIMES_DEGREES / step, far), _LAST_CYCLES)
        last = field_angst / s.last_resolution if s.last_resolution else scope.band(reach, images.box)
        nyquist = images.box / 2 - 1
        return cls(min(first, nyquist), min(max(first, last), nyquist), finest)


@dataclass(frozen=True)
class AbInitioState:
    """What one iteration hands to the next.

    log_evidence: mean of log p(y) over the last batch's images, up to a constant.
    peaks: the mean largest posterior of each iteration. grew: the last iteration in which the band grew.
    """

    iteration: int
    band: float
    noise: Tensor
    halves: tuple[SliceSums, SliceSums]
    volume: Tensor
    ssnr: Tensor
    log_evidence: float
    peaks: tuple[float, ...]
    grew: int = 0


class Told(NamedTuple):
    """What images say in an iteration, summed over them.

    residual: (P,) expected |y − C T|² / σ². log_evidence: of log p(y), up to a constant of the grid. peak: of the
    largest posteriors.
    """

    residual: Tensor
    log_evidence: Tensor
    peak: Tensor


# Assigns images, adds them into the sums of a map, and says how well they fit.
Expectation = Callable[[Evidence, SliceSums], Told]


class AbInitio:
    """One stochastic EM search over the images at `rows` (n,): those of one half-set."""

    def __init__(
        self,
        images: WorkingImages,
        rows: Tensor,
        settings: AbInitioSettings,
        scope: Scope,
        bands: Bands,
        team: Team,
    ):
        self.images, self.rows, self.settings = images, rows, settings
        self.scope, self.bands, self.team = scope, bands, team
        self.mask = soft_sphere(images.box, scope.radius_px, device=images.device)
        self.hold = settings.first_iterations
        # An image of a symmetric molecule counts many times, and grids finer than usual cost as much more.
        finer = min(1.0, (bands.finest / finest_step(scope.group)) ** 1.5)
        self.batch_size = max(2, round(settings.batch_size * finer / len(scope.group) ** (1 / 6)))

    def start(self, generator: torch.Generator) -> AbInitioState:
        """A first volume from a batch at random orientations."""
        index = self.draw(generator)
        noise = self.images.mean_power(index)
        evidence = self.images.evidence(index, noise, self.bands.first)
        halves = []
        for half in (slice(0, None, 2), slice(1, None, 2)):
            sums = self._empty()
            part = evidence.select(half)
            rotations = random_rotations(len(part), generator).to(self.images.device)
            sums.add(part.weighted, part.power, rotations, part.lattice)
            halves.append(sums)
        ssnr = torch.ones(self.images.box // 2, device=self.images.device)
        volume = (halves[0] + halves[1]).volume(ssnr) * self.mask
        return AbInitioState(0, self.bands.first, noise, (halves[0], halves[1]), volume, ssnr, -math.inf, ())

    def _empty(self) -> SliceSums:
        return SliceSums.zeros(self.images.box, self.bands.last, self.scope.group, self.images.device)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Indices of a random mini-batch; an even number, so that it splits into halves."""
        n = min(self.batch_size, len(self.rows)) // 2 * 2
        return self.rows[torch.randperm(len(self.rows), generator=generator)[:n]]

    def step(self, state: AbInitioState, generator: torch.Generator) -> AbInitioState:
        """One iteration: assign a mini-batch softly to a randomly turned grid, update sums, noise, band and volume."""
        index = self.draw(generator)
        turn = random_rotations(1, generator)[0]
        lattice = self.images.lattice.prefix(state.band)
        expect = self._expectation(state, FourierSlice.of_volume(state.volume, PAD, self.bands.last), turn)
        found, halves = [], []
        for part, old in zip((index[::2], index[1::2]), state.halves, strict=True):
            new = self._empty()
            told = expect(self.images.evidence(self.team.share(part), state.noise, state.band), new)
            found.append(Told(*self.team.add(told)))
            halves.append(old.scaled(self.settings.momentum) + new.all_reduced(self.team))
        told = Told(*(a + b for a, b in zip(*found, strict=True)))
        noise = self._noise(state, lattice, told.residual / len(index))
        return self._maximise(replace(state, noise=noise), (halves[0], halves[1]), told, len(index))

    def _expectation(self, state: AbInitioState, projector: FourierSlice, turn: Tensor) -> Expectation:
        """All orientations of a grid, all shifts, each image softly: templates are rendered once for the iteration."""
        grid = RotationGrid.with_spacing(self._angle_step(state.band)).rotations() @ turn
        grid = grid[asymmetric_unit(grid, self.scope.group)].to(self.images.device)
        templates = Templates.render(projector, grid, self.images.lattice.prefix(state.band))
        basis, log_prior = self._shifts(state.band, templates.lattice)

        def expect(evidence: Evidence, sums: SliceSums) -> Told:
            found = posterior_sums(templates, evidence, basis, log_prior, self._temper(state))
            sums.add(torch.view_as_complex(found.pairs.view(len(grid), -1, 2)), found.power, grid, evidence.lattice)
            cross = (found.pairs * templates.pairs).view(*templates.power.shape, 2).sum((0, 2))
            fit = (found.power * templates.power).sum(0) - 2 * cross
            return Told(evidence.image_power.sum(0) + fit, found.log_evidence, found.peak)

        return expect

    def _shifts(self, band: float, lattice: FrequencyLattice) -> tuple[ShiftBasis, Tensor]:
        """The shifts that a band can tell apart, and their log-prior (S,)."""
        reach = self.scope.shift_px
        shifts = shift_disc(reach, min(shift_step(self.images.box, band), reach)).to(self.images.device)
        return ShiftBasis.of_shifts(shifts, lattice), shift_log_prior(shifts, reach)

    def _angle_step(self, band: float) -> float:
        needed = _CYCLES_TIMES_DEGREES / self.scope.cycles(band, self.images.box)
        return max(self.bands.finest, next((step for step in STEPS if step <= needed * 1.05), STEPS[-1]))

    def _temper(self, state: AbInitioState) -> float:
        done = min(1.0, state.iteration / self.settings.temper_iterations)
        return self.settings.first_temper ** (1 - done)

    def likelihood(self, volume: Tensor, band: float, n: int = 400) -> float:
        """Mean log p(y) of `n` of the images under a map (D, D, D) up to `band`: comparable between starts."""
        index = self.rows[torch.linspace(0, len(self.rows) - 1, min(n, len(self.rows))).long()]
        noise, empty = self.images.mean_power(index), self._empty()
        whole = self.settings.temper_iterations
        state = AbInitioState(whole, band, noise, (empty, empty), volume, noise, 0.0, ())
        expect = self._expectation(state, FourierSlice.of_volume(volume, PAD, self.bands.last), torch.eye(3))
        told = expect(self.images.evidence(self.team.share(index), noise, band), empty)
        return float(self.team.add([told.log_evidence])[0]) / len(index)

    def converged(self, state: AbInitioState) -> bool:
        """Whether the band has arrived or stalled, the likelihood counts in full, and assignments sharpen no more."""
        s, window = self.settings, 6
        if state.iteration >= s.iterations:
            return True
        if state.iteration < self.hold + 2 * window:
            return False
        recent, before = sum(state.peaks[-window:]), sum(state.peaks[-2 * window : -window])
        arrived = state.band >= self.bands.last - 1e-3 or state.iteration - state.grew > 2 * window
        return arrived and recent < 1.05 * before

    def _maximise(self, state: AbInitioState, halves: tuple[SliceSums, SliceSums], told: Told, n: int):
        flat = torch.full_like(state.ssnr, 1e4)
        maps = [half.volume(flat) * self.mask for half in halves]
        fsc = fourier_shell_correlation(*maps).to(flat).clamp(0.0, 0.999)
        # Two halves of the sums are half as many particles each as the volume is made of.
        ssnr = (2 * fsc / (1 - fsc)).clamp(min=0.02)
        volume = (halves[0] + halves[1]).volume(ssnr) * self.mask
        reach = crossing_shell(fsc[: int(state.band) + 1], 0.5) + 1.5
        # Detail that is let in before the likelihood counts in full is learnt from orientations that are still random.
        growth = self.settings.growth if state.iteration >= self.hold else 0.0
        band = min(max(state.band, min(reach, state.band * (1 + growth))), self.bands.last)
        lattice = self.images.lattice.prefix(state.band)
        log_noise = float(lattice.from_shells(state.noise)[1:].log().sum())
        log_evidence = float(told.log_evidence) / n - log_noise
        peaks = (*state.peaks, float(told.peak) / n)
        done = state.iteration + 1
        grew = done if band > state.band + 1e-3 else state.grew
        return AbInitioState(done, band, state.noise, halves, volume, ssnr, log_evidence, peaks, grew)

    def _noise(self, state: AbInitioState, lattice: FrequencyLattice, residual: Tensor) -> Tensor:
        """Noise power by shell (D/2,), half old, half from the images' mean residual (P,), in units of the old."""
        updated = state.noise.clone()
        n_shells = int(state.band)
        shell = lattice.shell_mean(residual * lattice.from_shells(state.noise))
        updated[1 : n_shells + 1] = shell[1 : n_shells + 1]
        return 0.5 * state.noise + 0.5 * updated.clamp(min=1e-6 * float(state.noise.max()))
