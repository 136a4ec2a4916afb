"""Pose search against brute force: every image, every shift, every rotation, one at a time."""

import pytest
import torch

from cryoloom.model.poses import search
from cryoloom.model.poses.search import (
    Candidates,
    Templates,
    best_candidates,
    posterior_sums,
    shift_grid,
    subdivide,
)
from cryoloom.physics.so3 import RotationGrid, angular_distance, random_rotations


@pytest.fixture
def few(plant):
    """Images, templates at 20 rotations, 5 shifts and their log-prior; scores (B, S, G) written out."""
    images = plant(6, snr=0.02)
    generator = torch.Generator().manual_seed(9)
    rotations = random_rotations(20, generator)
    rotations[:6] = images.rotation
    shifts = torch.cat([torch.zeros(1, 2), 2 * torch.randn(4, 2, generator=generator)])
    log_prior = -0.1 * shifts.square().sum(1)
    templates = Templates.render(images.projector, rotations, images.lattice)
    scores = [[[images.score(i, r, t) for r in rotations] for t in shifts] for i in range(6)]
    return images, templates, shifts, log_prior, torch.tensor(scores) + log_prior[:, None]


@pytest.mark.parametrize("temper", [1.0, 0.3])
def test_posterior_sums_are_the_sums_over_a_softmax(few, temper, monkeypatch):
    images, templates, shifts, log_prior, scores = few
    # Small chunks: an image's posterior must not depend on its neighbours.
    monkeypatch.setattr(search, "SCORES_PER_CHUNK", 2 * len(shifts) * len(templates))
    evidence = images.evidence
    found = posterior_sums(templates, evidence, shifts, log_prior, temper)
    weight = torch.softmax((temper * scores.double()).flatten(1), 1).view(scores.shape).float()
    moved = evidence.centred(shifts.expand(6, -1, 2))
    expected = torch.einsum("bsg,bsp->gp", weight + 0j, moved)
    pairs = torch.view_as_complex(found.pairs.view(len(templates), -1, 2))
    assert (pairs - expected).norm() < 2e-3 * expected.norm()
    power = torch.einsum("bsg,bp->gp", weight, evidence.power)
    assert (found.power - power).norm() < 2e-3 * power.norm()
    assert float(found.peak) == pytest.approx(float(weight.flatten(1).amax(1).sum()), rel=2e-3)


def test_every_image_counts_once(few):
    images, templates, shifts, log_prior, _ = few
    evidence = images.evidence
    found = posterior_sums(templates, evidence, shifts, log_prior)
    assert torch.allclose(found.power.sum(0), evidence.power.sum(0), rtol=1e-4)


def test_log_evidence_is_the_log_sum_over_poses(few):
    images, templates, shifts, log_prior, scores = few
    found = posterior_sums(templates, images.evidence, shifts, log_prior)
    per_image = torch.logsumexp(scores.double().flatten(1), 1) - images.evidence.image_power.sum(1)
    assert found.log_evidence.tolist() == pytest.approx(
        [float(per_image.sum()), float(per_image.square().sum())], rel=1e-3
    )


def test_templates_score_by_one_product(few):
    _, templates, _, _, _ = few
    assert templates.columns().shape == (20, 3 * len(templates.lattice) + 1)
    assert torch.allclose(templates.power, templates.pairs.view(20, -1, 2).square().sum(-1), rtol=1e-4)


def test_best_candidates_are_the_best_of_brute_force(few):
    images, templates, shifts, log_prior, scores = few
    index = torch.arange(100, 120)
    found = best_candidates(templates, index, images.evidence, shifts, log_prior, keep=4)
    best = scores.amax(1).topk(4, dim=1)
    assert torch.allclose(found.score, best.values, rtol=1e-3, atol=0.1)
    assert torch.equal(found.index, index[best.indices])
    at = scores.argmax(1).gather(1, best.indices)
    assert torch.equal(found.shift, shifts[at])


def test_a_planted_rotation_and_shift_are_found(plant):
    shifts = shift_grid(3.0, 1.0)
    truth = torch.tensor([17, 300, 444])
    grid = RotationGrid(1)
    moved = shifts[torch.tensor([2, 11, 20])]
    images = plant(3, snr=5.0, rotation=grid.rotations(truth), shift=moved)
    templates = Templates.render(images.projector, grid.rotations(), images.lattice)
    prior = torch.zeros(len(shifts))
    found = best_candidates(templates, torch.arange(len(grid)), images.evidence, shifts, prior, keep=2)
    assert torch.equal(found.index[:, 0], truth)
    assert torch.equal(found.shift[:, 0], moved)
    assert (found.score[:, 0] > found.score[:, 1]).all()


def test_subdivision_picks_the_child_that_is_the_truth(plant, generator):
    coarse, fine = RotationGrid(1), RotationGrid(2)
    turn = random_rotations(1, generator)[0]
    parents = torch.tensor([[40, 200], [333, 5], [571, 100]])
    truth = coarse.children(parents)[:, 0, 5]
    centre = torch.randn(3, 2, generator=generator)
    local = shift_grid(1.0, 0.5)
    step = local[torch.tensor([0, 3, 7])]
    images = plant(3, snr=20.0, rotation=fine.rotations(truth) @ turn, shift=centre + step)
    given = Candidates(parents, centre[:, None].expand(3, 2, 2).contiguous(), torch.zeros(3, 2))
    found = subdivide(images.projector, images.evidence, given, 2, turn, local, keep=3)
    assert torch.equal(found.index[:, 0], truth)
    assert torch.allclose(found.shift[:, 0], centre + step, atol=1e-6)
    for i in range(3):
        rotation = fine.rotations(found.index[i]) @ turn
        for k in range(3):
            assert float(found.score[i, k]) == pytest.approx(images.score(i, rotation[k], found.shift[i, k]), rel=2e-3)


def test_subdivision_comes_closer_from_any_rotation(plant):
    coarse, fine = RotationGrid(1), RotationGrid(2)
    images = plant(20, snr=2.0)
    grid = coarse.rotations()
    apart = angular_distance(images.rotation[:, None], grid)
    near, parents = apart.topk(4, dim=1, largest=False)
    given = Candidates(parents, images.shift[:, None].expand(-1, 4, 2).contiguous(), torch.zeros(20, 4))
    found = subdivide(images.projector, images.evidence, given, 2, torch.eye(3), shift_grid(1.0, 0.5), keep=1)
    left = angular_distance(images.rotation, fine.rotations(found.index[:, 0]))
    assert float(left.mean()) < 0.8 * float(near[:, 0].mean())


def test_shift_grid_is_a_disc_with_its_centre():
    grid = shift_grid(3.0, 1.0)
    assert len(grid) == 29
    assert (grid == 0).all(1).sum() == 1
    assert float(grid.norm(dim=1).max()) == 3.0
    for mirrored in (-grid, grid.flip(1)):
        assert {tuple(t) for t in mirrored.tolist()} == {tuple(t) for t in grid.tolist()}
    assert len(shift_grid(0.5, 1.0)) == 1
    finer = shift_grid(1.0, 0.25)
    assert float((finer[:, None] - finer).norm(dim=-1).fill_diagonal_(9).min()) == pytest.approx(0.25)
