"""Poses searched among conformations that linear components span."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cryoloom.data import read_particles
from cryoloom.data.half_sets import half_sets
from cryoloom.data.particles import Particles
from cryoloom.evaluate.heterogeneity import TrueConformations
from cryoloom.model.poses.search import SearchSettings
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import angular_distance, random_rotations
from cryoloom.solve.components import AmongConformations, ConformationMaps, conformation_maps
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.run import Run, RunConfig
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.session import Session
from cryoloom.solve.team import Team

BOX, PIXEL, BAND = 24, 4.8, 11.0
SEARCH = SearchSettings(first_band=6, last_band=BAND, subdivisions=1)


@pytest.fixture(scope="module")
def two_kinds(two_kinds_of) -> Path:
    """The truth of 400 images of two kinds of molecules."""
    return two_kinds_of(400, BOX, PIXEL)


@pytest.fixture(scope="module")
def particles(two_kinds: Path) -> Particles:
    return read_particles(two_kinds / "particles.star")


def kinds(particles: Particles) -> Tensor:
    return torch.as_tensor(particles.column("conformation").astype(int))


def found(particles: Particles, made: ConformationMaps, start: Pose) -> Pose:
    images = WorkingImages(particles)
    scope = Scope.of(ScopeSettings(max_shift_angst=2 * PIXEL), images, "C1")
    search = AmongConformations(images, made, SEARCH, 4, BAND, scope, start, torch.eye(3), seed=0)
    return search(torch.arange(len(particles)))


def errors(particles: Particles, poses: Pose) -> Tensor:
    return angular_distance(poses.best_rotation, particles.poses().best_rotation.float())


def test_maps_of_conformations_tell_the_kinds_apart(two_kinds: Path, particles: Particles, tmp_path: Path):
    images, true = WorkingImages(particles), particles.poses()
    session = Session(Run.create(tmp_path / "run", RunConfig(particles=Path("/p.star"))), Team(), lambda *_: None)
    poses = Pose.single(true.best_rotation.float(), true.best_shift.float())
    mask = soft_sphere(BOX, 0.45 * BOX)
    made = conformation_maps(images, poses, first_noise(images), BAND, mask, 1, 2, session)
    assert made.maps.shape == (2, 2, BOX, BOX, BOX)
    apart = TrueConformations.of(two_kinds, BOX).stacked().diff(dim=0)[0]
    for half in made.maps:
        # Which of the two comes first is the clustering's choice.
        alike = torch.cosine_similarity(half.diff(dim=0).flatten(), (apart * mask).flatten(), 0)
        assert abs(float(alike)) > 0.7
    assert float(errors(particles, found(particles, made, poses)).median()) < 6


def test_a_particle_is_found_at_the_map_of_its_conformation(two_kinds: Path, particles: Particles):
    images, kind, true = WorkingImages(particles), kinds(particles), particles.poses()
    maps, noise = TrueConformations.of(two_kinds, BOX).stacked(), first_noise(images)
    evidence = images.evidence(torch.arange(len(particles)), noise, BAND)
    slices = torch.stack(
        [FourierSlice.of_volume(m, 2).project(true.best_rotation.float(), evidence.lattice) for m in maps]
    )[kind, torch.arange(len(kind))]
    moved = evidence.centred(true.best_shift.float() / PIXEL)
    maps = maps * ((slices.conj() * moved).real.sum() / (slices.abs().square() * evidence.power).sum())
    g = torch.Generator().manual_seed(0)
    start = Pose.single(random_rotations(len(kind), g), torch.zeros(len(kind), 2))
    both = ConformationMaps(torch.stack([maps, maps]), noise)
    one = ConformationMaps(both.maps[:, :1], noise)
    lost = [(errors(particles, found(particles, made, start)) > 20).float() for made in (both, one)]
    assert float(lost[0].mean()) < 0.1
    # Of the other kind's particles a search at one map alone loses many.
    assert float(lost[1][kind == 1].mean()) > 3 * float(lost[0][kind == 1].mean()) + 0.1
    # A pose that is right is kept where the search is too coarse to find a better one.
    rough = found(particles, both, Pose.single(true.best_rotation.float(), true.best_shift.float()))
    assert float(errors(particles, rough).median()) < 4


def test_particles_are_searched_at_the_other_half_sets_maps(two_kinds: Path, particles: Particles):
    """Where one half-set's map holds no molecule, it is the other half-set's particles that are lost."""
    images, noise = WorkingImages(particles), first_noise(WorkingImages(particles))
    maps = TrueConformations.of(two_kinds, BOX).stacked()
    made = ConformationMaps(torch.stack([maps, 1e-3 * maps.flip(1)]), noise)
    start = Pose.single(random_rotations(len(particles), torch.Generator().manual_seed(0)))
    lost = (errors(particles, found(particles, made, start)) > 20).float()
    first, second = half_sets(images.particles, 0)
    assert float(lost[first].mean()) > 0.8
    assert float(lost[second].mean()) < 0.2
