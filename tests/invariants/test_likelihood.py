"""What the likelihood of a pose must not depend on, whoever computes it: every scorer joins `SCORERS`."""

import pytest
import torch
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.polish import curvature, curvature_in_torch
from cryoloom.model.poses.search import base_candidates
from cryoloom.model.poses.shifts import ShiftBasis
from cryoloom.model.poses.templates import Templates
from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import point_group, random_rotations

from .test_projectors import turned

N = 5


def by_templates(projector: FourierSlice, evidence: Evidence, rotation: Tensor, shift: Tensor) -> Tensor:
    """Each image against the template of its own pose, by the matrix product of the search."""
    scores = []
    for i in range(len(evidence)):
        bank = Templates.render(projector, rotation[i : i + 1], evidence.lattice)
        part = evidence.select(slice(i, i + 1))
        basis = ShiftBasis.of_shifts(shift[i : i + 1], evidence.lattice)
        scores.append(base_candidates(bank, part, basis, torch.zeros(1), 1).score)
    return torch.cat(scores)[:, 0]


def by_curvature(scorer):
    def score(projector: FourierSlice, evidence: Evidence, rotation: Tensor, shift: Tensor) -> Tensor:
        return scorer(projector, evidence, rotation[:, None], shift[:, None])[0][:, 0]

    return score


SCORERS = {
    "templates": by_templates,
    "curvature": by_curvature(curvature),
    "curvature_in_torch": by_curvature(curvature_in_torch),
}
scorers = pytest.mark.parametrize("score", SCORERS.values(), ids=SCORERS)


@pytest.fixture
def images(blobs, generator):
    """Spectra, CTFs, noise, rotations and shifts of N images of the blobs, scored at wrong poses."""
    lattice = FrequencyLattice.of_box(32).prefix(11)
    rotation, shift = random_rotations(N, generator), torch.randn(N, 2, generator=generator)
    ctf = torch.rand(N, len(lattice), generator=generator) - 0.3
    slices = FourierSlice.of_volume(blobs).project(random_rotations(N, generator), lattice)
    draw = torch.randn(N, len(lattice), generator=generator, dtype=torch.complex64)
    noise = slices.abs().square().mean() * (1 + lattice.radius / 10)
    return ctf * slices + draw * noise.sqrt(), ctf, noise, lattice, rotation, shift


@scorers
def test_image_and_shift_move_together(score, blobs, images, generator):
    spectrum, ctf, noise, lattice, rotation, shift = images
    projector, step = FourierSlice.of_volume(blobs), 2 * torch.randn(N, 2, generator=generator)
    moved = spectrum * shift_phases(lattice.k, step, 32)
    before = score(projector, Evidence.of_images(spectrum, ctf, noise, lattice), rotation, shift)
    after = score(projector, Evidence.of_images(moved, ctf, noise, lattice), rotation, shift + step)
    assert torch.allclose(before, after, rtol=1e-3, atol=0.02)


@scorers
def test_volume_and_pose_turn_together(score, blobs, images):
    spectrum, ctf, noise, lattice, rotation, shift = images
    evidence = Evidence.of_images(spectrum, ctf, noise, lattice)
    for g in point_group("O")[[1, 5, 13]]:
        before = score(FourierSlice.of_volume(blobs), evidence, rotation @ g, shift)
        after = score(FourierSlice.of_volume(turned(blobs, g)), evidence, rotation, shift)
        assert torch.allclose(before, after, rtol=5e-3, atol=0.05)


@scorers
def test_contrast_of_image_and_volume_cancel(score, blobs, images):
    spectrum, ctf, noise, lattice, rotation, shift = images
    white = score(FourierSlice.of_volume(blobs), Evidence.of_images(spectrum, ctf, noise, lattice), rotation, shift)
    black = score(FourierSlice.of_volume(-blobs), Evidence.of_images(-spectrum, ctf, noise, lattice), rotation, shift)
    assert torch.allclose(white, black, rtol=1e-4, atol=1e-3)


@scorers
def test_the_sign_of_the_ctf_is_seen_in_its_product_with_the_volume_only(score, blobs, images):
    spectrum, ctf, noise, lattice, rotation, shift = images
    plus = score(FourierSlice.of_volume(blobs), Evidence.of_images(spectrum, ctf, noise, lattice), rotation, shift)
    minus = score(FourierSlice.of_volume(-blobs), Evidence.of_images(spectrum, -ctf, noise, lattice), rotation, shift)
    assert torch.allclose(plus, minus, rtol=1e-4, atol=1e-3)


@scorers
def test_twice_the_noise_is_half_the_evidence(score, blobs, images):
    spectrum, ctf, noise, lattice, rotation, shift = images
    projector = FourierSlice.of_volume(blobs)
    once = score(projector, Evidence.of_images(spectrum, ctf, noise, lattice), rotation, shift)
    twice = score(projector, Evidence.of_images(spectrum, ctf, 2 * noise, lattice), rotation, shift)
    assert torch.allclose(once / 2, twice, rtol=1e-4, atol=1e-3)
    assert float(once.abs().min()) > 0.1
