"""How large a molecule is, and whether it is white, from images at unknown orientations."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.physics.fourier import radii3
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.spherical import molecule_scope, spherical_average
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.scope import ScopeSettings

PIXEL_SIZE, LIMITS = 2.8, ScopeSettings(max_shift_angst=12.0)
# The phantom is 90 Å long; of the hollow molecule 95 % lie within 45 Å of the centre.
DIAMETER = 90.0


def hollow(box: int) -> torch.Tensor:
    """Sixty balls on a sphere of 36 Å radius."""
    generator = torch.Generator().manual_seed(3)
    axis = (torch.arange(box) - box // 2) * PIXEL_SIZE
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.zeros(box, box, box)
    for _ in range(60):
        centre = 36 * torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        volume += torch.exp(-squared / (2 * 5.0**2))
    return volume


def molecule_of(kind: str, box: int) -> torch.Tensor:
    return phantom(box, PIXEL_SIZE) if kind == "solid" else hollow(box)


@pytest.fixture
def images_of(tmp_path: Path):
    """Simulate images of a volume, moved by up to 3 pixels; the noise of a pixel is the same in every box."""

    def make(volume: torch.Tensor, ctf: bool, n: int = 600, snr: float = 0.1, seed: int = 1) -> WorkingImages:
        box = len(volume)
        settings = Simulation(
            box=box, pixel_size=PIXEL_SIZE, particles=n, snr=snr * (48 / box) ** 2, shift=3.0, ctf=ctf, seed=seed
        )
        simulate_particles([volume], settings, tmp_path / str(box))
        return WorkingImages(read_particles(tmp_path / str(box) / "particles.star"))

    return make


@pytest.mark.parametrize("ctf", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["solid", "hollow"])
def test_diameter_and_contrast(kind: str, sign: int, ctf: bool, images_of):
    found = spherical_average(images_of(sign * molecule_of(kind, 48), ctf), 12.0 / PIXEL_SIZE)
    assert found.clear
    assert found.sign == sign
    assert 2 * found.inside_px * PIXEL_SIZE == pytest.approx(DIAMETER, rel=0.15)
    assert found.inside_px <= found.outer_px < 24
    # Most of the mass lies in the middle of the solid molecule, and in the wall of the hollow one.
    densest = float(found.radius[(sign * found.density * found.radius**2).argmax()]) * PIXEL_SIZE
    assert densest == pytest.approx(36 if kind == "hollow" else 20, abs=5)


def test_a_hollow_molecule_is_seen_to_be_hollow(images_of):
    found = spherical_average(images_of(hollow(48), True), 12.0 / PIXEL_SIZE)
    r = found.radius * PIXEL_SIZE
    wall, inner = found.density[(r - 36).abs() < 3].mean(), found.density[(r > 8) & (r < 20)].mean()
    assert float(inner.abs()) < 0.5 * float(wall)


@pytest.mark.parametrize("kind", ["solid", "hollow"])
@pytest.mark.parametrize("ctf", [True, False])
def test_a_larger_box_changes_no_diameter(kind: str, ctf: bool, images_of):
    """In wide solvent the mass inside of a radius wanders, and must not count as molecule."""
    scopes = [molecule_scope(LIMITS, images_of(molecule_of(kind, box), ctf), "C1") for box in (48, 84)]
    tight, padded = (scope.diameter_px * PIXEL_SIZE for scope in scopes)
    assert padded == pytest.approx(tight, rel=0.15)
    assert padded == pytest.approx(DIAMETER, rel=0.15)
    assert all(scope.diameter_px / 2 < scope.radius_px < 0.7 * scope.diameter_px for scope in scopes)


@pytest.mark.parametrize("seed", range(4))
def test_noise_has_no_diameter(seed: int, images_of):
    images = images_of(phantom(48, PIXEL_SIZE), seed % 2 == 0, n=300, snr=1e-6, seed=seed)
    assert not spherical_average(images, 12.0 / PIXEL_SIZE).clear
    scope = molecule_scope(LIMITS, images, "C1")
    assert scope.diameter_px == pytest.approx(0.9 * 48)


def test_a_given_diameter_is_not_measured(images_of):
    images = images_of(phantom(48, PIXEL_SIZE), True, n=50)
    scope = molecule_scope(ScopeSettings(mask_diameter_angst=112.0), images, "C1")
    assert scope.diameter_px == pytest.approx(40)
    assert scope.radius_px == pytest.approx(20)


def test_the_truth_is_what_the_tests_say():
    radius, volume = radii3(48) * PIXEL_SIZE, hollow(48)
    order = radius.flatten().argsort()
    mass = volume.flatten()[order].cumsum(0)
    assert 2 * float(radius.flatten()[order][mass > 0.95 * mass[-1]][0]) == pytest.approx(DIAMETER, rel=0.02)
