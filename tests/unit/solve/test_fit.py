"""The gradient loop: stages do what they say, and a fit that was stopped goes on to the bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.conformation.dvae import DVAE, DynamicsSettings
from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.settings import FieldSettings, NetworkSettings
from cryoloom.model.poses.table import PoseTable
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.amplitude import signal_amplitude
from cryoloom.solve.batches import Batches
from cryoloom.solve.fit import Fit, FitState
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.march import MarchSettings, march
from cryoloom.solve.model import ComputeSettings, Model
from cryoloom.solve.results import Latents
from cryoloom.solve.run import Run, RunConfig
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.session import Session
from cryoloom.solve.stages import Stage
from cryoloom.solve.team import Team


@pytest.fixture(scope="module")
def particles(tmp_path_factory) -> Particles:
    """60 images of the phantom, box 24, at their true poses."""
    folder = tmp_path_factory.mktemp("phantom")
    settings = Simulation(box=24, pixel_size=4.8, particles=60, snr=2.0, shift=1.0, seed=0)
    simulate_particles(conformations_of(Source((Path("phantom"),)), 24, 4.8), settings, folder)
    return read_particles(folder / "truth" / "particles.star")


# The square root makes lengths differ; the factor mixes the rows.
MOVIE = (torch.arange(60) * 7 % 60).float().sqrt().mul(2).long()


def stages() -> list[Stage]:
    """Every kind of pass once, two of them over part of the images."""
    search = march_search().at_band(5)
    among = {"z": "none", "search": search, "polish_steps": 1, "representatives": 2}
    common = {"train": ("field",), "batch_size": 16, "lr": 1e-3}
    return [
        Stage("pretrain", 1, "random", band=5, images=40, **common),
        Stage("march", 2, "search", band=5, images=30, search=search, polish_steps=1, **common),
        Stage("train", 1, "stored", band=8, reset=True, coefficients=0.5, **common),
        Stage("refine", 0, "polish", band=8, polish_steps=2, **common),
        Stage("conformations", 0, "conformations", (), 8, 16, 0.0, **among),
        Stage("gradient", 2, "model", ("field", "poses"), 8, 16, 1e-3, rates={"poses": 1e-2}),
        Stage("poses", 0, "infer", (), 8, 16, 0.0),
    ]


def march_search():
    from cryoloom.model.poses.search import SearchSettings

    return SearchSettings(angle_step=30, subdivisions=1, candidates=2)


def fit_of(particles: Particles, run: Run, stages: list[Stage]) -> Fit:
    session = Session(run, Team(), lambda *_: None)
    images = WorkingImages(particles)
    settings = FieldSettings(network=NetworkSettings(width=16, blocks=1))
    field = build_field(settings, 24, session.beginning)
    field.scale_to(signal_amplitude(images))
    table = PoseTable(Pose.single(random_rotations(60, session.beginning)), images.pixel_size)
    scope = Scope.of(ScopeSettings(), images, "C1")
    model = Model(images, {"field": field, "poses": table}, ComputeSettings(precision="f32"))
    return Fit(model, stages, session, scope)


def filmed(particles: Particles, run: Run, stages: list[Stage]) -> Fit:
    """A fit of movies of 1 to 7 frames, whose rows are mixed."""
    session, images, movie = Session(run, Team(), lambda *_: None), WorkingImages(particles), MOVIE
    field = build_field(FieldSettings(network=NetworkSettings(width=16, blocks=1)), 24, session.beginning, z_dim=2)
    field.scale_to(signal_amplitude(images))
    encoder = Encoder(EncoderSettings(network="mlp", width=2, features=8), 1, session.beginning)
    dvae = DVAE(8, 2, DynamicsSettings(hidden=4), (movie, torch.arange(60)), session.beginning)
    parts = {"field": field, "encoder": encoder, "conformation": dvae}
    model = Model(images, parts, ComputeSettings(precision="f32"))
    return Fit(model, stages, session, Scope.of(ScopeSettings(), images, "C1"), movie)


def carried_out(particles: Particles, run: Run, stages: list[Stage]) -> tuple[Fit, FitState]:
    fit = fit_of(particles, run, stages)
    return fit, fit.run(fit.start())


def without_clock(line: dict) -> dict:
    return {name: value for name, value in line.items() if name not in ("seconds", "memory_gb", "images_per_s")}


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return RunConfig(particles=Path("/data/particles.star"), seed=7)


def test_stopped_at_any_batch_it_goes_on_to_the_bit(particles, config, tmp_path, monkeypatch):
    monkeypatch.setattr("cryoloom.solve.fit.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr("cryoloom.solve.fit.SEARCH_CHUNK", 16)
    whole = Run.create(tmp_path / "whole", config)
    fit, state = carried_out(particles, whole, stages())
    saved, lines = fit.session.step, [without_clock(line) for line in whole.metrics()]
    weights = {f"{a}.{b}": w for a, part in fit.model.parts.items() for b, w in part.state_dict().items()}
    for stop in range(1, saved, 3):
        run = Run.create(tmp_path / f"stop-{stop}", config)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "save", stopping(Session.save, stop))
            with pytest.raises(KeyboardInterrupt):
                carried_out(particles, run, stages())
        again, resumed = carried_out(particles, Run.open(run.path), stages())
        for name, part in again.model.parts.items():
            for key, weight in part.state_dict().items():
                assert torch.equal(weight, weights[f"{name}.{key}"]), (stop, name, key)
        assert torch.equal(resumed.poses.rotation, state.poses.rotation)
        assert torch.equal(resumed.poses.shift, state.poses.shift)
        assert torch.equal(resumed.noise, state.noise)
        assert [without_clock(line) for line in run.metrics()] == lines


def test_movies_are_never_cut_and_go_on_to_the_bit(particles, config, tmp_path, monkeypatch):
    monkeypatch.setattr("cryoloom.solve.fit.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr("cryoloom.solve.fit.SEARCH_CHUNK", 16)
    train = ("field", "encoder", "conformation")
    # Some movies are longer than the second stage's batches, and its images end within a movie.
    two = [Stage("one", 2, "stored", train, 6, 16, 1e-3), Stage("two", 2, "stored", train, 6, 5, 1e-3, images=30)]
    seen: list[torch.Tensor] = []

    def run_through(run: Run) -> tuple[Fit, FitState, Latents]:
        fit = filmed(particles, run, two)
        read = fit.model.batch
        monkeypatch.setattr(
            fit.model, "batch", lambda index, *rest, **more: (seen.append(index), read(index, *rest, **more))[1]
        )
        state = fit.run(fit.start(particles.poses()))
        return fit, state, fit.latents(state)

    whole, state, latents = run_through(Run.create(tmp_path / "whole", config))
    lengths = MOVIE.bincount()
    assert all(len(index) == int(lengths[MOVIE[index].unique()].sum()) for index in seen)
    steps = torch.cat(seen[: -len(whole.batches.pieces(16))]).bincount(minlength=60)
    assert int(steps.min()) == 2
    assert set(steps.tolist()) == {2, 4}
    assert len(state.order) <= 30
    assert sorted(torch.cat(whole.batches.pieces(16)).tolist()) == list(range(60))
    weights = {f"{a}.{b}": w for a, part in whole.model.parts.items() for b, w in part.state_dict().items()}
    for stop in (2, 5, 9, whole.session.step - 1):
        run = Run.create(tmp_path / f"stop-{stop}", config)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "save", stopping(Session.save, stop))
            with pytest.raises(KeyboardInterrupt):
                run_through(run)
        again, _, found = run_through(Run.open(run.path))
        for name, part in again.model.parts.items():
            for key, weight in part.state_dict().items():
                assert torch.equal(weight, weights[f"{name}.{key}"]), (stop, name, key)
        assert torch.equal(found.mean, latents.mean)


def test_the_size_of_the_signal_is_that_of_the_volume_by_shell_or_one_number(particles):
    images = WorkingImages(particles)
    by_shell, alike = signal_amplitude(images), signal_amplitude(images, by_shell=False)
    assert by_shell.shape == alike.shape == (13,)
    assert float(by_shell[1:4].mean()) > 3 * float(by_shell[-4:].mean())
    assert torch.allclose(alike, by_shell.square().mean().sqrt().expand(13))


def test_processes_share_movies_not_frames():
    batches = Batches(60, MOVIE)
    index = batches.next(batches.shuffled(torch.arange(60), torch.Generator().manual_seed(0)), 0, 30)
    shares = []
    for rank in range(2):
        team = Team()
        team.rank, team.size = rank, 2
        shares.append(batches.mine(index, team))
    assert sorted(torch.cat(shares).tolist()) == list(range(len(index)))
    assert not set(MOVIE[index[shares[0]]].tolist()) & set(MOVIE[index[shares[1]]].tolist())


def stopping(save, at: int):
    def stop(self, *given, **states):
        save(self, *given, **states)
        if self.step == at:
            raise KeyboardInterrupt

    return stop


def test_every_pass_is_recorded(particles, config, tmp_path):
    run = Run.create(tmp_path / "run", config)
    carried_out(particles, run, stages())
    lines = run.metrics()
    assert [line["pass"] for line in lines] == [
        "train",
        "search",
        "train",
        "train",
        "train",
        "polish",
        "maps",
        "conformations",
        *["train"] * 2,
        "infer",
    ]
    assert [line["images"] for line in lines] == [40, 30, 30, 30, *[60] * 7]
    for line in lines:
        assert line["images_per_s"] > 0
        assert ("loss" in line) == (line["pass"] == "train")


@pytest.mark.parametrize("coefficients", [1.0, 0.4])
def test_training_lowers_the_loss_and_moves_only_what_it_names(particles, config, tmp_path, coefficients):
    common = {"poses": "stored", "batch_size": 16, "lr": 3e-3, "coefficients": coefficients}
    run = Run.create(tmp_path / "run", config)
    fit = fit_of(particles, run, [Stage("train", 12, train=("field",), band=8, **common)])
    before = fit.model.parts["poses"].move.weight.clone()
    start = fit.start(particles.poses())
    state = fit.run(start)
    losses = [line["loss"] for line in run.metrics()]
    assert losses[0] > 0.5
    # The noise follows what is left, so the sum of squares itself is compared.
    assert float(state.noise[2:8].sum()) < 0.9 * float(start.noise[2:8].sum())
    assert torch.equal(before, fit.model.parts["poses"].move.weight)
    assert torch.equal(state.poses.rotation, particles.poses().rotation)


@pytest.mark.parametrize("coefficients", [1.0, 0.4])
def test_the_gradient_of_a_batch_is_the_sum_of_its_shares(particles, config, tmp_path, monkeypatch, coefficients):
    stage = Stage("train", 1, "stored", ("field",), 8, 16, 1e-3, coefficients=coefficients)
    fit = fit_of(particles, Run.create(tmp_path / "run", config), [stage])
    nothing = torch.zeros(2, fit.images.lattice.count(8))
    state = replace(fit.start(particles.poses()), order=torch.arange(60), squares=nothing)
    last = fit.model.field.get_parameter("network.mlp.last.weight")
    found = []
    for share in (slice(None), slice(0, None, 2), slice(1, None, 2)):
        monkeypatch.setattr(fit.team, "share", lambda index, share=share: index[share])
        fit.model.field.reset(torch.Generator().manual_seed(0))
        fit.session.generator.manual_seed(0)
        fit.step(state, stage, torch.arange(16))
        assert last.grad is not None
        found.append(last.grad.clone())
    assert torch.allclose(found[0], found[1] + found[2], rtol=1e-4, atol=1e-5 * float(found[0].abs().max()))


def test_the_march_grows_and_fits_the_box():
    found = march(MarchSettings(rounds=5), march_search(), 32)
    bands = [stage.band for stage in found]
    assert bands == sorted(bands)
    assert bands[-1] == 15
    assert all(s.search is None or s.search.last_band is None or s.search.last_band <= 15 for s in found)
    assert found[0].poses == "random"
    assert sum(stage.reset for stage in found) == 1


def test_a_march_that_shrinks_is_refused():
    with pytest.raises(InputError, match="first-band"):
        march(MarchSettings(first_band=12, last_band=8), march_search(), 64)


def test_limits_beyond_the_box_are_refused(particles):
    images = WorkingImages(particles)
    with pytest.raises(InputError, match="max-shift-angst 80"):
        Scope.of(ScopeSettings(max_shift_angst=80), images, "C1")
    with pytest.raises(InputError, match="mask-diameter-angst 200"):
        Scope.of(ScopeSettings(mask_diameter_angst=200), images, "C1")
