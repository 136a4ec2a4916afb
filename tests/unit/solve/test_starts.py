"""Searches of two half-sets: the likelihood chooses among maps, agreement confirms, and poses must be decided."""

from types import SimpleNamespace

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.data.half_sets import half_sets
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import point_group
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.abinitio import AbInitioSettings, AbInitioState
from cryoloom.solve.em.march import EMMarchSettings
from cryoloom.solve.em.refine import Refinement, RefineSettings
from cryoloom.solve.em.starts import FirstMaps, Found, HalfSearches, Pair, Trials
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.scope import Scope
from cryoloom.solve.team import Team


@pytest.fixture(scope="module")
def trimer() -> torch.Tensor:
    third = torch.roll(phantom(24, 8.5), 4, dims=2)
    return torch.stack([apply_to_volume(third, turn) for turn in point_group("C3")]).sum(0)


@pytest.fixture(scope="module")
def images(trimer: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> WorkingImages:
    folder = tmp_path_factory.mktemp("trimer")
    settings = Simulation(box=24, pixel_size=8.5, particles=80, snr=2.0, shift=1.0, seed=1)
    simulate_particles(Conformations.of_volumes([trimer]), settings, folder)
    return WorkingImages(read_particles(folder / "particles.star"))


def scope(symmetry: str) -> Scope:
    return Scope(point_group(symmetry), 2.0, 9.0, 16.0)


def refinement_of(images: WorkingImages, symmetry: str) -> Refinement:
    rows = torch.arange(len(images))
    return Refinement(images, RefineSettings(), scope(symmetry), (rows[::2], rows[1::2]), Team())


def test_poses_that_are_equal_by_symmetry_are_one_pose(images: WorkingImages, trimer: torch.Tensor):
    refinement, rows = refinement_of(images, "C3"), torch.arange(len(images))
    found = refinement.start((trimer, trimer), first_noise(images), 10.0)
    for seed in range(2):
        found = refinement.step(found, True, torch.Generator().manual_seed(seed))
    assert found.jumped < 0.05
    assert float(found.poses.max_posterior.mean()) > 0.95
    assert refinement.undecided(found, rows) < 0.05
    # Without the symmetry some of the three equal poses lie beside the best; a search need not find all.
    assert 0.25 < refinement_of(images, "C1").undecided(found, rows) < 0.75


def test_the_likeliest_first_map_goes_on(images: WorkingImages):
    state = AbInitioState(1, 4.0, first_noise(images), (), torch.zeros(1), torch.ones(1), 0.0, ())
    made = FirstMaps()
    for iteration, log_likelihood in enumerate((-5.0, -3.0, -4.0)):
        made = made.and_one(AbInitioState(**{**state.__dict__, "iteration": iteration}), log_likelihood)
    assert made.made == 3
    assert made.best is not None
    assert made.best.iteration == 1


def test_two_wrong_maps_that_agree_yield_to_likelier_ones(images: WorkingImages, trimer: torch.Tensor):
    half = half_sets(images.particles, 0)
    session = SimpleNamespace(team=Team())
    searches = HalfSearches(images, half, AbInitioSettings(), EMMarchSettings(), scope("C3"), session)
    wrong = apply_to_volume(trimer, torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    noise = first_noise(images)
    bad, good = (Found(volume, noise, 9.0, likely, 0.0) for volume, likely in ((wrong, -60.0), (trimer, -50.0)))
    assert torch.equal(searches.likeliest_pair((bad, bad)).volumes[0], wrong)
    # One map of each half-set is right, each of another search.
    pair = searches.likeliest_pair((bad, good, good, bad))
    assert torch.equal(pair.volumes[0], trimer)
    assert pair.agreement > 0.95
    assert pair.certain
    assert pair.starts == 2


class Remembered:
    """A session that keeps its last checkpoint, the random generator's state included, and stops at the n-th."""

    def __init__(self, stop: int = -1, checkpoint: tuple[Trials, torch.Tensor] | None = None):
        self.team, self.stop, self.checkpoint, self.count = Team(), stop, checkpoint, 0
        self.generator = torch.Generator().manual_seed(5)
        self.run = SimpleNamespace(record=lambda **_: None)
        if checkpoint:
            self.generator.set_state(checkpoint[1])

    def saved(self, name: str, kind: type) -> Trials | None:
        return self.checkpoint[0] if self.checkpoint else None

    def save(self, metrics: dict | None, ab_initio: Trials) -> None:
        self.checkpoint, self.count = (ab_initio, self.generator.get_state()), self.count + 1
        if self.count == self.stop:
            raise KeyboardInterrupt

    def progress(self, stage: str, done: int, total: int, text: str) -> None:
        assert 0 <= done <= total


def test_first_maps_that_were_stopped_go_on_to_the_bit(images: WorkingImages):
    half = half_sets(images.particles, 0)
    settings = AbInitioSettings(batch_size=30, iterations=4, temper_iterations=1, first_maps=3, starts=1)
    march = EMMarchSettings(iterations=1, batch_size=20)

    def searched(session: Remembered) -> Pair:
        return HalfSearches(images, half, settings, march, scope("C3"), session).run()

    whole = searched(Remembered())
    # In the second of three first maps.
    stopped = Remembered(stop=6)
    with pytest.raises(KeyboardInterrupt):
        searched(stopped)
    assert stopped.checkpoint is not None
    assert stopped.checkpoint[0].first.made == 1
    again = searched(Remembered(checkpoint=stopped.checkpoint))
    assert torch.equal(again.volumes[0], whole.volumes[0])
    assert torch.equal(again.volumes[1], whole.volumes[1])
    assert again.agreement == whole.agreement


@pytest.mark.parametrize(
    ("agreement", "undecided", "independent", "confirmed", "certain"),
    [
        (0.95, 0.01, True, True, True),
        (0.95, 0.30, True, True, False),
        (0.70, 0.01, True, True, True),
        (0.70, 0.01, False, False, False),
        (0.95, 0.01, False, True, True),
        (0.40, 0.01, True, False, False),
    ],
)
def test_what_ends_the_searches(agreement: float, undecided: float, independent: bool, confirmed: bool, certain: bool):
    volume = torch.zeros(1)
    pair = Pair((volume, volume), volume, 8.0, agreement, undecided, independent, 1)
    assert (pair.confirmed, pair.certain) == (confirmed, certain)
