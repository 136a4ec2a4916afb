"""Pose search against brute force, planted poses, and what it refuses."""

import pytest
import torch

from cryoloom.errors import InputError
from cryoloom.model.poses import search as module
from cryoloom.model.poses.search import Candidates, PoseSearch, SearchSettings, base_candidates, subdivide
from cryoloom.model.poses.shifts import ShiftBasis, shift_square
from cryoloom.model.poses.templates import Templates
from cryoloom.physics.so3 import RotationGrid, angular_distance, point_group, random_rotations


@pytest.mark.parametrize("fast_bf16", [False, True])
def test_base_candidates_are_the_best_of_brute_force(few, fast_bf16, monkeypatch):
    """Whatever precision chooses them, candidates carry their scores in full precision."""
    images, templates, shifts, log_prior, scores = few
    monkeypatch.setattr(module, "has_fast_bf16", lambda _: fast_bf16)
    monkeypatch.setattr(module, "SCORES_PER_CHUNK", 2 * len(shifts) * len(templates))
    basis = ShiftBasis.of_shifts(shifts, images.lattice, 1e-4)
    found = base_candidates(templates, images.evidence, basis, log_prior, keep=4)
    best = scores.amax(1).topk(4, dim=1)
    assert torch.allclose(found.score, best.values, rtol=1e-3, atol=0.1)
    assert torch.equal(found.index, best.indices)
    at = scores.argmax(1).gather(1, best.indices)
    assert torch.equal(found.shift, shifts[at])


def test_a_planted_rotation_and_shift_are_found(plant):
    search_shifts = shift_square(3.0, 5)
    truth = torch.tensor([17, 300, 444])
    grid = RotationGrid(1)
    moved = search_shifts[torch.tensor([2, 11, 20])]
    images = plant(3, snr=5.0, rotation=grid.rotations(truth), shift=moved)
    templates = Templates.render(images.projector, grid.rotations(), images.lattice)
    basis = ShiftBasis.of_shifts(search_shifts, images.lattice)
    found = base_candidates(templates, images.evidence, basis, torch.zeros(25), keep=2)
    assert torch.equal(found.index[:, 0], truth)
    assert torch.equal(found.shift[:, 0], moved)
    assert (found.score[:, 0] > found.score[:, 1]).all()


def test_subdivision_picks_the_child_that_is_the_truth(plant, generator):
    coarse, fine = RotationGrid(1), RotationGrid(2)
    turn = random_rotations(1, generator)[0]
    parents = torch.tensor([[40, 200], [333, 5], [571, 100]])
    truth = coarse.children(parents)[:, 0, 5]
    centre = torch.randn(3, 2, generator=generator)
    local = shift_square(1.0, 4)
    step = local[torch.tensor([0, 3, 7])]
    images = plant(3, snr=20.0, rotation=fine.rotations(truth) @ turn, shift=centre + step)
    given = Candidates(parents, centre[:, None].expand(3, 2, 2).contiguous(), torch.zeros(3, 2))
    basis = ShiftBasis.of_shifts(local, images.lattice, 1e-4)
    found = subdivide(images.projector, images.evidence, given, fine, turn, basis, keep=3)
    assert torch.equal(found.index[:, 0], truth)
    assert torch.allclose(found.shift[:, 0], centre + step, atol=1e-6)
    for i in range(3):
        rotation = fine.rotations(found.index[i]) @ turn
        for k in range(3):
            assert float(found.score[i, k]) == pytest.approx(images.score(i, rotation[k], found.shift[i, k]), rel=2e-3)


def test_every_level_comes_closer(plant, generator):
    images = plant(20, snr=2e3, shift=4 * torch.rand(20, 2, generator=generator) - 2)
    far = []
    for subdivisions in (0, 1, 2, 3):
        settings = SearchSettings(angle_step=30, subdivisions=subdivisions, first_band=4, last_band=8)
        search = PoseSearch(settings, images.lattice, point_group("C1"), 3.0)
        found = search.against(images.projector).best(images.evidence)
        assert found.rotation.shape == (20, 8, 3, 3)
        assert (found.score[:, :-1] >= found.score[:, 1:]).all()
        far.append(float(angular_distance(images.rotation, found.rotation[:, 0]).median()))
    assert far[3] < far[2] < far[1] < far[0]
    assert far[3] < 4


def test_symmetry_searches_one_unit_only(plant):
    images = plant(2, snr=2.0)
    settings = SearchSettings(first_band=4, last_band=8)
    sizes = []
    for name in ("C1", "D2"):
        search = PoseSearch(settings, images.lattice, point_group(name), 3.0)
        sizes.append(len(search.against(images.projector).templates))
    assert sizes[0] == 4608
    assert sizes[1] == pytest.approx(4608 / 4, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "shift_px", "words"),
    [
        ({"first_band": 30.0, "last_band": 20.0}, 3.0, "first band"),
        ({"first_band": 400.0}, 3.0, "in a box of"),
        ({"candidates": 5000}, 3.0, "more than the 4608"),
        ({}, 400.0, "expected less than half"),
    ],
)
def test_what_the_box_cannot_hold_is_refused(changes, shift_px, words, plant):
    images = plant(1, snr=1.0)
    with pytest.raises(InputError, match=words):
        PoseSearch(SearchSettings(**{"first_band": 4.0, **changes}), images.lattice, point_group("C1"), shift_px)
