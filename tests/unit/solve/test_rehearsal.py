"""Projections of the field are read as poses that are known: right answers cost nothing, and the field stays."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.settings import FieldSettings
from cryoloom.model.poses.regressor import PoseRegressor
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.model import ComputeSettings, Model, Still
from cryoloom.solve.rehearsal import Rehearsed, rehearse

LIMIT, PIXEL = 8.0, 4.8


class Answers(PoseRegressor):
    """A pose network that was told the answers."""

    told: Pose

    def forward(self, batch):
        return self.told


@pytest.fixture
def model(tmp_path: Path, generator) -> Model:
    settings = Simulation(box=24, pixel_size=PIXEL, particles=12, shift=1.0, seed=0)
    simulate_particles(conformations_of(Source((Path("phantom"),)), 24, PIXEL), settings, tmp_path)
    images = WorkingImages(read_particles(tmp_path / "particles.star"))
    field = build_field(FieldSettings(field="voxels"), 24, generator)
    encoder = Encoder(EncoderSettings(network="mlp", box=24, width=4), 2, generator)
    poses = PoseRegressor(encoder.features, "s2s2", LIMIT, generator)
    parts = {"field": field, "encoder": encoder, "poses": poses}
    return Model(images, parts, ComputeSettings(precision="f32"))


@pytest.fixture
def batch(model: Model):
    return model.batch(torch.arange(12), first_noise(model.images), 11.0, read=False)


def test_shifts_fill_a_square_inside_the_limit(generator):
    drawn = Rehearsed.drawn(500, 3, generator)
    assert drawn.shift.norm(dim=1).max() <= 1
    assert drawn.shift.abs().max() > 0.69
    assert drawn.noise.abs().square().mean() == pytest.approx(1, abs=0.1)


def test_right_answers_cost_nothing_and_wrong_ones_their_distance(model: Model, batch, generator):
    drawn = Rehearsed.drawn(12, len(batch.lattice), generator)
    slices = Still(model, batch.lattice)(drawn.rotation[:, None], batch.lattice)[:, 0]
    answers = Answers(256, "s2s2", LIMIT, generator)
    model.parts["poses"] = answers
    noise = first_noise(model.images)
    far = drawn.rotation @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    shift = LIMIT * drawn.shift
    answers.told = Pose(torch.stack([far, drawn.rotation], 1), torch.stack([shift, shift], 1))
    assert rehearse(model, batch.index, batch.lattice, slices, noise, drawn).max() < 1e-3
    answers.told = Pose.single(far, shift + torch.tensor([PIXEL, 0.0]))
    # A half turn is 8 away, and a pixel 1.
    found = rehearse(model, batch.index, batch.lattice, slices, noise, drawn)
    torch.testing.assert_close(found, torch.full((12,), 9.0 * len(batch.lattice)), rtol=1e-4, atol=0)


def test_the_network_learns_from_it_and_the_field_does_not(model: Model, batch, generator):
    noise = 1e-6 * first_noise(model.images)
    model.field.scale_to(torch.ones(13))
    network = [*model.parts["encoder"].parameters(), *model.poses.parameters()]
    optimiser = torch.optim.Adam(network, 3e-3)
    drawn = Rehearsed.drawn(12, len(batch.lattice), generator)
    slices = Still(model, batch.lattice)(drawn.rotation[:, None], batch.lattice)[:, 0]
    costs = []
    for _ in range(60):
        cost = rehearse(model, batch.index, batch.lattice, slices, noise, drawn).mean() / len(batch.lattice)
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        costs.append(float(cost.detach()))
    assert costs[-1] < 0.3 * costs[0]
    assert all(parameter.grad is None for parameter in model.field.parameters())


def test_many_slices_are_those_of_the_fields_map_which_is_made_once(model: Model, batch, generator, monkeypatch):
    rotation = random_rotations(20, generator).view(10, 2, 3, 3)
    still, made = Still(model, batch.lattice), []
    few = torch.cat([still(part, batch.lattice) for part in rotation.split(1)])
    monkeypatch.setattr(model.field, "slices", None)
    of_field = model.map
    monkeypatch.setattr(model, "map", lambda band: made.append(band) or of_field(band))
    many, _ = still(rotation, batch.lattice), still(rotation, batch.lattice)
    assert len(made) == 1
    assert few.shape == many.shape == (10, 2, len(batch.lattice))
    assert not few.requires_grad
    assert not many.requires_grad
    assert (few - many).abs().square().sum() < 0.05 * few.abs().square().sum()
