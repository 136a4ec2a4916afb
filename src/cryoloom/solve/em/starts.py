"""Maps from nothing: each half-set makes its own from random orientations, until two of them agree."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cryoloom.solve.em.abinitio import AbInitio, AbInitioSettings, AbInitioState, Bands
from cryoloom.solve.em.independent import compare_maps, on_box
from cryoloom.solve.em.march import EMMarchSettings, March
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.scope import Scope
from cryoloom.solve.session import Session

# Mean FSC of what is not round in two halves' maps, over the finer half of their band, at which they show one molecule.
CONFIRMED = 0.5
# Fewer particles than this in a half-set do not find a map of their own.
LEAST_OF_HALF = 1000


@dataclass(frozen=True)
class Found:
    """What a search ended with: its map (D, D, D), noise by shell, band in Fourier pixels of its own box."""

    volume: Tensor
    noise: Tensor
    band: float


@dataclass(frozen=True)
class Trials:
    """Searches from random starts, the two half-sets in turn: the one under way, and those that are finished.

    state: None between two searches. marching: the soft search is over, and the hierarchical one goes on from it;
    certain: the soft search left most orientations certain.
    """

    state: AbInitioState | None
    marching: bool
    certain: bool
    found: tuple[Found, ...]


class Pair(NamedTuple):
    """A map for each half-set (D, D, D) in one frame of reference, their noise and band, and how far they agree."""

    volumes: tuple[Tensor, Tensor]
    noise: Tensor
    band: float
    agreement: float
    confirmed: bool
    starts: int


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
        """Search until a map of one half-set and one of the other agree, or all starts are used up."""
        session = self.session
        trials = session.saved("ab_initio", Trials) or Trials(None, False, False, ())
        while True:
            number = len(trials.found)
            if trials.state is None and number % 2 == 0 and number:
                pair = self.best_pair(trials.found)
                self._record_pair(pair)
                if pair.confirmed or number == 2 * self.settings.starts:
                    return pair
            trials = self._search(trials, number)

    def _search(self, trials: Trials, number: int) -> Trials:
        """The trials with search `number` finished."""
        session, soft = self.session, self.soft(number)
        state = trials.state or soft.start(session.generator)
        if not trials.marching:
            while not soft.converged(state):
                state = soft.step(state, session.generator)
                self._note(soft, state, number, replace(trials, state=state), "ab initio")
            certain = state.peaks[-1] >= self.march.certain
            trials = replace(trials, marching=True, certain=certain)
            state = self.finer(number, certain).go_on(state)
        march = self.finer(number, trials.certain)
        while not march.converged(state):
            state = march.step(state, session.generator)
            self._note(march, state, number, replace(trials, state=state), "march")
        found = Found(state.volume, state.noise, state.band)
        trials = Trials(None, False, False, (*trials.found, found))
        session.save(None, ab_initio=trials)
        return trials

    def best_pair(self, found: tuple[Found, ...]) -> Pair:
        """Of all pairs of one map of each half-set the one that agrees best, laid on one another.

        Where none agrees and all starts are used up, each half-set's most likely map is taken.
        """
        box = max(f.volume.shape[-1] for f in found)
        choices = [(a, b) for a in found[::2] for b in found[1::2]]
        pairs = [self._pair(a, b, box, len(found) // 2) for a, b in choices]
        best = max(pairs, key=lambda pair: pair.agreement)
        if best.confirmed or len(found) < 2 * self.settings.starts:
            return best
        first, second = (self._likeliest(found[half::2], half) for half in (0, 1))
        return self._pair(first, second, box, len(found) // 2)

    def _pair(self, a: Found, b: Found, box: int, starts: int) -> Pair:
        band, size = min(a.band, b.band), min(len(a.noise), len(b.noise))
        first = on_box(a.volume, box)
        found = compare_maps(first, on_box(b.volume, box), band, self.scope.group)
        noise, mean = (a.noise[:size] + b.noise[:size]) / 2, found.mean(0.5 * band, band)
        return Pair((first, found.volume), noise, band, mean, mean > CONFIRMED, starts)

    def _likeliest(self, found: tuple[Found, ...], half: int) -> Found:
        """Of several maps of one half-set the one that explains its images best, all up to the same band."""
        search = self.soft(half)
        box = search.images.box
        return max(found, key=lambda f: search.likelihood(on_box(f.volume, box), search.bands.last))

    def _note(self, search: AbInitio, state: AbInitioState, number: int, trials: Trials, stage: str) -> None:
        box_angst = self.images.box * self.images.pixel_size
        metrics = {
            "stage": stage,
            "start": number // 2 + 1,
            "half": number % 2 + 1,
            "iteration": state.iteration,
            "band": round(state.band, 2),
            "resolution_angst": round(box_angst / state.band, 2),
            "log_likelihood": round(state.log_evidence, 3),
            "max_posterior": round(state.peaks[-1], 4),
            "images": min(search.batch_size, len(search.rows)),
        }
        self.session.save(metrics, ab_initio=trials)
        each = self.settings.iterations + self.march.iterations
        done = number * each + state.iteration + (self.settings.iterations if trials.marching else 0)
        text = f"start {number // 2 + 1}, half {number % 2 + 1}, {box_angst / state.band:.1f} Å"
        self.session.progress("ab initio", done, 2 * self.settings.starts * each, text)

    def _record_pair(self, pair: Pair) -> None:
        metrics = {
            "stage": "half-sets compared",
            "starts": pair.starts,
            "agreement": round(pair.agreement, 4),
            "confirmed": pair.confirmed,
            "independent": self.independent,
        }
        if self.session.team.leads:
            self.session.run.record(**metrics)
        each = self.settings.iterations + self.march.iterations
        total = 2 * self.settings.starts * each
        done = total if pair.confirmed else 2 * pair.starts * each
        self.session.progress("ab initio", done, total, f"half-maps agree: {pair.agreement:.2f}")
