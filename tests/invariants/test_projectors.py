"""What every projector must do. A new one joins `PROJECTORS` and inherits every test below.

A case maps a real volume (D, D, D), rotations (R, 3, 3) and a lattice of P frequencies to half-plane spectra (R, P).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from beartype import beartype
from jaxtyping import Complex, Float, jaxtyped
from torch import Tensor

from cryoloom.physics.fourier import FrequencyLattice, shift_phases
from cryoloom.physics.points import PointSum
from cryoloom.physics.project import FourierSlice, RayIntegral
from cryoloom.physics.so3 import matrix_from_rotvec, point_group, random_rotations


@dataclass(frozen=True)
class Case:
    name: str
    spectra: Callable[[Tensor, Tensor, FrequencyLattice], Tensor]
    # How far interpolation lets it be from the exact sum over voxels, as a share of the slice's norm.
    tolerance: float


PROJECTORS = [
    Case("FourierSlice", lambda v, r, lattice: FourierSlice.of_volume(v).project(r, lattice), 0.02),
    Case("FourierSlice-pad3", lambda v, r, lattice: FourierSlice.of_volume(v, pad=3).project(r, lattice), 0.01),
    Case("FourierSlice-band", lambda v, r, lattice: FourierSlice.of_volume(v, band=12).project(r, lattice), 0.02),
    Case("RayIntegral", lambda v, r, lattice: lattice.spectrum(RayIntegral(v).project(r)), 0.1),
    # No interpolation: what is left are the faint voxels that the sum below leaves out.
    Case("PointSum", lambda v, r, lattice: PointSum(v).project(r, lattice), 5e-4),
]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

projectors = pytest.mark.parametrize("case", PROJECTORS, ids=lambda case: case.name)


@pytest.fixture
def lattice() -> FrequencyLattice:
    return FrequencyLattice.of_box(32).prefix(12)


@pytest.fixture
def rotations(generator) -> Tensor:
    return random_rotations(5, generator)


def difference(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖."""
    return float((a - b).abs().square().sum().sqrt() / b.abs().square().sum().sqrt())


def exact_slices(volume: Tensor, rotations: Tensor, lattice: FrequencyLattice) -> Tensor:
    """`V̂(Rᵀ(kx, ky, 0)) = Σ_r V(r) exp(−2πi k·(R r)/D)`, summed over the voxels."""
    occupied = torch.nonzero(volume.abs() > 1e-4)
    r = (occupied - volume.shape[-1] // 2).flip(-1).float()
    in_plane = torch.einsum("rji,vi->rvj", rotations[:, :2], r)
    phase = -2 * math.pi / lattice.box * (in_plane @ lattice.k.T)
    value = volume[tuple(occupied.T)].to(torch.complex64)
    return torch.einsum("v,rvp->rp", value, torch.polar(torch.ones(()), phase))


def turned(volume: Tensor, g: Tensor) -> Tensor:
    """V(gᵀ x), exactly, for a rotation g that permutes the axes; the volume must vanish at its faces."""
    box = volume.shape[-1]
    axis = torch.arange(box) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    source = torch.einsum("ji,zyxj->zyxi", g.round().long(), torch.stack([x, y, z], -1))
    sx, sy, sz = ((source + box // 2) % box).unbind(-1)
    return volume[sz, sy, sx]


@projectors
def test_agrees_with_the_exact_sum(case, blobs, rotations, lattice):
    assert difference(case.spectra(blobs, rotations, lattice), exact_slices(blobs, rotations, lattice)) < case.tolerance


@projectors
def test_zero_frequency_is_the_sum_of_the_volume(case, blobs, rotations, lattice):
    origin = case.spectra(blobs, rotations, lattice)[:, 0]
    # Correcting for the interpolation's fall-off is right on average over a cell, not at its corner.
    assert torch.allclose(origin.real, blobs.sum().expand(5), rtol=2 * case.tolerance)
    assert origin.imag.abs().max() < 1e-3 * float(blobs.sum())


@projectors
def test_is_linear(case, blobs, rotations, lattice, generator):
    other = torch.randn(blobs.shape, generator=generator) * blobs
    sum_of_slices = 2 * case.spectra(blobs, rotations, lattice) - 3 * case.spectra(other, rotations, lattice)
    assert difference(case.spectra(2 * blobs - 3 * other, rotations, lattice), sum_of_slices) < 1e-4


@projectors
def test_adjoint_passes_the_dot_product_test(case, rotations, lattice, generator):
    x = torch.randn(32, 32, 32, generator=generator)
    y = torch.randn(5, len(lattice), generator=generator, dtype=torch.complex64)
    v = torch.zeros(32, 32, 32, requires_grad=True)
    # The map is linear: the gradient of Re⟨A v, y⟩ is Aᴴy, whatever v.
    (case.spectra(v, rotations, lattice) * y.conj()).real.sum().backward()
    left = (case.spectra(x, rotations, lattice) * y.conj()).real.sum()
    right = (x * v.grad).sum()
    scale = float(x.norm() * v.grad.norm())
    assert abs(float(left - right)) < 1e-5 * scale


@projectors
def test_turning_the_volume_is_turning_the_pose(case, blobs, rotations, lattice):
    for g in point_group("O")[[1, 5, 13, 22]]:
        of_turned = case.spectra(turned(blobs, g), rotations, lattice)
        assert difference(of_turned, case.spectra(blobs, rotations @ g, lattice)) < 2e-3


@projectors
def test_a_turn_in_the_plane_turns_the_picture(case, blobs, rotations, lattice):
    quarter = matrix_from_rotvec(torch.tensor([0.0, 0.0, math.pi / 2]))
    square = FrequencyLattice.of_box(32).prefix(11)
    before, after = (square.images(case.spectra(blobs, r, square)) for r in (rotations, quarter @ rotations))
    # x axis onto y axis: the value at (x, y) moves to (−y, x). Rows are y.
    expected = torch.roll(before.transpose(-1, -2).flip(-1), 1, -1)
    assert difference(after, expected) < 5e-3


@projectors
def test_moving_the_volume_moves_the_picture(case, blobs, rotations, lattice):
    step = torch.tensor([1, -2, 1])
    moved = torch.roll(blobs, tuple(step.flip(0).tolist()), (0, 1, 2))
    in_plane = (rotations @ step.float())[:, :2]
    expected = case.spectra(blobs, rotations, lattice) * shift_phases(lattice.k, in_plane, 32)
    assert difference(case.spectra(moved, rotations, lattice), expected) < 2 * case.tolerance


def test_shifts_add_up(lattice, generator):
    a, b = torch.randn(2, 7, 2, generator=generator).unbind(0)
    both = shift_phases(lattice.k, a, 32) * shift_phases(lattice.k, b, 32)
    assert torch.allclose(both, shift_phases(lattice.k, a + b, 32), atol=1e-5)
    assert torch.allclose(shift_phases(lattice.k, -a, 32), shift_phases(lattice.k, a, 32).conj(), atol=1e-6)


@projectors
def test_poses_can_be_learnt_by_gradient(case, blobs, rotations, lattice):
    target = case.spectra(blobs, rotations, lattice)
    axis = torch.tensor([0.6, -0.48, 0.64])

    def loss(angle: Tensor) -> Tensor:
        return (
            (case.spectra(blobs, matrix_from_rotvec(angle * axis) @ rotations, lattice) - target).abs().square().sum()
        )

    angle = torch.tensor(0.1, requires_grad=True)
    loss(angle).backward()
    with torch.no_grad():
        slope = (loss(angle + 0.02) - loss(angle - 0.02)) / 0.04
    assert float(angle.grad) == pytest.approx(float(slope), rel=0.1)
    assert float(angle.grad) > 0


@projectors
@pytest.mark.parametrize("device", DEVICES)
def test_shapes_types_and_devices(case, blobs, rotations, device):
    on_device = FrequencyLattice.of_box(32, device).prefix(12)

    @jaxtyped(typechecker=beartype)
    def checked(volume: Float[Tensor, "d d d"], r: Float[Tensor, "r 3 3"]) -> Complex[Tensor, "r p"]:
        return case.spectra(volume, r, on_device)

    slices = checked(blobs.to(device), rotations.to(device))
    assert slices.shape == (5, len(on_device))
    assert slices.dtype == torch.complex64
    assert slices.device.type == device
    assert difference(slices.cpu(), case.spectra(blobs, rotations, FrequencyLattice.of_box(32).prefix(12))) < 1e-4


@projectors
def test_a_batch_is_its_members(case, blobs, rotations, lattice):
    batch = case.spectra(blobs, rotations, lattice)
    members = torch.cat([case.spectra(blobs, r[None], lattice) for r in rotations])
    assert torch.allclose(batch, members, atol=1e-3)
