"""Maps from nothing: each half-set makes its own from random orientations, until two of them agree."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cryoloom.solve.em.abinitio import AbInitio, AbInitioSettings, AbInitioState, Bands
from cryoloom.solve.em.independent import compare_maps, on_box
from cryoloom.solve.em.march import EMMarchSettings, March
from cryoloom.solve.em.refine import Refinement, RefineSettings
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.scope import Scope
from cryoloom.solve.session import Session

# Mean FSC of what is not round in two halves' maps, over the finer half of their band, at which they show one molecule.
CONFIRMED = 0.5
# The same of two maps of all particles, which share their noise as well.
REPEATED = 0.85
# Share of the posterior far from the best poses from which on a map may be a mixture of several.
UNDECIDED = 0.1
# Fewer particles than this in a half-set do not find a map of their own.
LEAST_OF_HALF = 1000


@dataclass(frozen=True)
class Found:
    """What a search ended with: its map (D, D, D), noise by shell, band in Fourier pixels of its own box.

    log_likelihood: mean over images of its half-set, all maps at one band. undecided: their mean posterior beside the
    best pose.
    """

    volume: Tensor
    noise: Tensor
    band: float
    log_likelihood: float
    undecided: float


@dataclass(frozen=True)
class FirstMaps:
    """Maps at the first band of one search, from random starts: how many are made, and the likeliest of them."""

    made: int = 0
    best: AbInitioState | None = None
    log_likelihood: float = -math.inf

    def and_one(self, state: AbInitioState, log_likelihood: float) -> "FirstMaps":
        """These and one more."""
        if log_likelihood <= self.log_likelihood:
            return replace(self, made=self.made + 1)
        return FirstMaps(self.made + 1, state, log_likelihood)


@dataclass(frozen=True)
class Trials:
    """Searches from random starts, the two half-sets in turn: the one under way, and those that are finished.

    state: None between two searches and two first maps. marching: the soft search is over, and the hierarchical one
    goes on from it; certain: the soft search left most orientations certain.
    """

    state: AbInitioState | None = None
    first: FirstMaps = FirstMaps()
    marching: bool = False
    certain: bool = False
    found: tuple[Found, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether no search is under way."""
        return self.state is None and not self.first.made


class Pair(NamedTuple):
    """A map for each half-set (D, D, D) in one frame of reference, their noise and band, and how far they agree."""

    volumes: tuple[Tensor, Tensor]
    noise: Tensor
    band: float
    agreement: float
    undecided: float
    independent: bool
    starts: int

    @property
    def confirmed(self) -> bool:
        """Whether the maps show one molecule."""
        return self.agreement > (CONFIRMED if self.independent else REPEATED)

    @property
    def certain(self) -> bool:
        """Whether another search could not find better maps, as far as can be seen."""
        return self.confirmed and self.undecided < UNDECIDED


class HalfSearches:
    """The searches of two half-sets: what one attempt of one half consists of, and how halves are compared."""

    def __init__(
        self,
        images: WorkingImages,
        halves: tuple[Tensor, Tensor],
        settings: AbInitioSettings,
        march: EMMarchSettings,
        scope: Scope,
        session: Session,
    ):
        self.images, self.settings, self.march, self.scope, self.session = images, settings, march, scope, session
        # A small set makes both maps from all of its particles: they then test the search, and not the data.
        self.independent = min(len(half) for half in halves) >= LEAST_OF_HALF
        everything = torch.cat(halves).sort().values
        self.rows = halves if self.independent else (everything, everything)

    def soft(self, number: int) -> AbInitio:
        """The soft search of attempt `number` // 2 of half-set `number` % 2."""
        bands = Bands.of(self.settings, self.scope, self.images, number // 2)
        return self._made(AbInitio, self.settings, bands, number)

    def finer(self, number: int, certain: bool) -> March:
        """The hierarchical search that follows it."""
        return self._made(March, self.march, March.bands(self.march, self.scope, self.images, certain), number)

    def _made(self, kind: Callable[..., Any], settings: Any, bands: Bands, number: int) -> Any:
        coarse = self.images.coarse(bands.last)
        scope = self.scope.scaled(coarse.box / self.images.box)
        return kind(coarse, self.rows[number % 2], settings, scope, bands, self.session.team)

    def run(self) -> Pair:
        """Search until the likeliest maps of the half-sets agree and decide the poses, or all searches are used up."""
        session = self.session
        trials = session.saved("ab_initio", Trials) or Trials()
        while True:
            number = len(trials.found)
            if trials.idle and number % 2 == 0 and number:
                pair = self.likeliest_pair(trials.found)
                self._record_pair(pair)
                if pair.certain or number == 2 * self.settings.starts:
                    return pair
            trials = self._search(trials, number)

    def _search(self, trials: Trials, number: int) -> Trials:
        """The trials with search `number` finished."""
        session, soft = self.session, self.soft(number)
        if not trials.marching:
            if self._first_maps(number) > 1:
                trials = self._with_first_maps(trials, soft, number)
            state = trials.state or soft.start(session.generator)
            while not soft.converged(state):
                state = soft.step(state, session.generator)
                self._note(soft, replace(trials, state=state), number, "ab initio")
            certain = state.peaks[-1] >= self.march.certain
            state = self.finer(number, certain).go_on(state)
            trials = replace(trials, state=state, first=FirstMaps(), marching=True, certain=certain)
        state, march = trials.state, self.finer(number, trials.certain)
        assert state is not None
        while not march.converged(state):
            state = march.step(state, session.generator)
            self._note(march, replace(trials, state=state), number, "march")
        told = self._likelihood(state.volume, number % 2), self._undecided(march, state)
        trials = Trials(found=(*trials.found, Found(state.volume, state.noise, state.band, *told)))
        session.save(None, ab_initio=trials)
        return trials

    def _with_first_maps(self, trials: Trials, soft: AbInitio, number: int) -> Trials:
        """The trials with the likeliest of several first maps, where a soft search is to go on."""
        first, state, last = trials.first, trials.state, self.settings.first_iterations
        while first.made < self._first_maps(number):
            state = state or soft.start(self.session.generator)
            while state.iteration < last:
                state = soft.step(state, self.session.generator)
                self._note(soft, replace(trials, state=state, first=first), number, "ab initio")
            first, state = first.and_one(state, soft.likelihood(state.volume, state.band)), None
        return replace(trials, state=state or first.best, first=first)

    def _first_maps(self, number: int) -> int:
        # A further search is another chance itself, and at finer angles a dear one.
        return self.settings.first_maps if number < 2 else 1

    def likeliest_pair(self, found: tuple[Found, ...]) -> Pair:
        """Of each half-set the map that explains its images best, the second laid on the first."""
        first, second = (max(found[half::2], key=lambda f: f.log_likelihood) for half in (0, 1))
        band, size = min(first.band, second.band), min(len(first.noise), len(second.noise))
        box = max(f.volume.shape[-1] for f in (first, second))
        volume = on_box(first.volume, box)
        compared = compare_maps(volume, on_box(second.volume, box), band, self.scope.group)
        return Pair(
            (volume, compared.volume),
            (first.noise[:size] + second.noise[:size]) / 2,
            band,
            compared.mean(0.5 * band, band),
            max(first.undecided, second.undecided),
            self.independent,
            len(found) // 2,
        )

    def _undecided(self, march: March, state: AbInitioState, n: int = 400) -> float:
        """Mean posterior beside their best pose of some of the images that a map was made of."""
        rows = march.rows[torch.linspace(0, len(march.rows) - 1, min(n, len(march.rows))).long()]
        refinement = Refinement(march.images, RefineSettings(), march.scope, (rows, rows), march.team)
        return refinement.undecided(refinement.start((state.volume, state.volume), state.noise, state.band), rows)

    def _likelihood(self, volume: Tensor, half: int) -> float:
        """Of a map (D, D, D) given images of a half-set, up to the band where the first soft search ends."""
        search = self.soft(half)
        return search.likelihood(on_box(volume, search.images.box), search.bands.last)

    def _note(self, search: AbInitio, trials: Trials, number: int, stage: str) -> None:
        state, box_angst = trials.state, self.images.box * self.images.pixel_size
        assert state is not None
        metrics = {
            "stage": stage,
            "start": number // 2 + 1,
            "half": number % 2 + 1,
            "first_map": min(trials.first.made + 1, self._first_maps(number)),
            "iteration": state.iteration,
            "band": round(state.band, 2),
            "resolution_angst": round(box_angst / state.band, 2),
            "log_likelihood": round(state.log_evidence, 3),
            "max_posterior": round(state.peaks[-1], 4),
            "images": min(search.batch_size, len(search.rows)),
        }
        if trials.marching:
            del metrics["first_map"]
        self.session.save(metrics, ab_initio=trials)
        text = f"start {number // 2 + 1}, half {number % 2 + 1}, {box_angst / state.band:.1f} Å"
        self._progress(number, trials, text)

    def _progress(self, number: int, trials: Trials, text: str) -> None:
        s = self.settings
        before = (s.first_maps - 1) * s.first_iterations
        each = before + s.iterations + self.march.iterations
        done = before + s.iterations if trials.marching else before * trials.first.made // max(1, s.first_maps - 1)
        done += number * each + (trials.state.iteration if trials.state else 0)
        total = 2 * s.starts * each
        self.session.progress("ab initio", min(done, total), total, text)

    def _record_pair(self, pair: Pair) -> None:
        metrics = {
            "stage": "half-sets compared",
            "starts": pair.starts,
            "agreement": round(pair.agreement, 4),
            "undecided": round(pair.undecided, 4),
            "confirmed": pair.confirmed,
            "independent": pair.independent,
        }
        if self.session.team.leads:
            self.session.run.record(**metrics)
        number = 2 * (self.settings.starts if pair.certain else pair.starts)
        self._progress(number, Trials(), f"half-maps agree: {pair.agreement:.2f}")
