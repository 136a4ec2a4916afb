"""Poses found anew at the maps of several conformations."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.evaluate.heterogeneity import TrueConformations
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import angular_distance
from cryoloom.solve.em.masks import molecule_mask, soft_sphere
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.latents import Latents
from cryoloom.solve.placing import Placing
from cryoloom.solve.stages import Stage

BOX, PIXEL, BAND = 24, 4.8, 11.0


@pytest.fixture(scope="module")
def two_kinds(two_kinds_of) -> Path:
    """The truth of 80 images of two kinds of molecules."""
    return two_kinds_of(80, BOX, PIXEL)


def _placed(truth: Path, right: bool, scale_of) -> torch.Tensor:
    """Angles (80,) to the true rotations after a polish, where every particle's z is that of its own or other kind."""
    particles = read_particles(truth / "particles.star")
    images = WorkingImages(particles, torch.device("cpu"))
    noise, true, maps = first_noise(images), particles.poses(), TrueConformations.of(truth, BOX).stacked()
    kind = torch.as_tensor(particles.column("conformation").astype(int))
    evidence = images.evidence(torch.arange(80), noise, BAND)
    slices = torch.stack(
        [FourierSlice.of_volume(maps[k], 2).project(true.best_rotation.float(), evidence.lattice) for k in (0, 1)]
    )[kind, torch.arange(80)]
    scale = scale_of(slices, evidence, true.best_shift.float() / PIXEL)
    model = SimpleNamespace(images=images, map=lambda band, z: scale * maps[int(z[0] > 0)])
    stage = Stage("settle", 0, "polish", (), BAND, 1, 0.0, polish_steps=4, representatives=2)
    g = torch.Generator().manual_seed(0)
    z = (2.0 * kind - 1)[:, None] * (1 if right else -1) + 0.01 * torch.randn(80, 1, generator=g)
    mask = soft_sphere(BOX, 0.45 * BOX)
    placing = Placing(model, stage, None, mask, true, Latents(z, torch.zeros_like(z)), noise, torch.eye(3))
    return angular_distance(placing(torch.arange(80)).best_rotation, true.best_rotation.float())


def test_a_polish_is_at_the_map_of_the_nearest_conformation(two_kinds: Path, scale_of):
    right, wrong = (_placed(two_kinds, right, scale_of).median() for right in (True, False))
    assert float(right) < 0.5 * float(wrong)


def test_what_counts_is_the_known_envelope_and_that_of_the_map(two_kinds: Path):
    maps, sphere = TrueConformations.of(two_kinds, BOX).stacked(), soft_sphere(BOX, 0.45 * BOX)
    placing = Placing.__new__(Placing)
    placing.mask, placing.envelope = sphere, None
    assert torch.equal(placing._mask(maps[1]), sphere)
    placing.envelope = molecule_mask(maps[0], 8.0, sphere)
    counts = placing._mask(maps[1])
    # What only the second kind has, and what only the first one has.
    assert all(float(counts[volume > 0.3 * maps.max()].min()) > 0.9 for volume in maps)
    assert float(counts.mean()) < 0.9 * float(sphere.mean())
