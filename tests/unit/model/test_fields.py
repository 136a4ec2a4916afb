"""What every field must do. A new one joins `FIELDS` and inherits every test below."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from beartype import beartype
from jaxtyping import Complex, Float, jaxtyped
from torch import Tensor

from cryoloom.errors import InputError
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.field import Field, FourierField, half_space, positive_half
from cryoloom.model.fields.mlp import feature_frequencies
from cryoloom.model.fields.settings import FieldSettings, NetworkSettings, TransformerSettings
from cryoloom.physics.fourier import FrequencyLattice, centred_fft3, centred_ifft3, radii3
from cryoloom.physics.points import PointSum
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import random_rotations

BOX = 16


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[torch.Generator], Field]


def field(name: str, z_dim: int = 0, **network) -> Callable[[torch.Generator], FourierField]:
    settings = FieldSettings(field=name, network=NetworkSettings(width=32, blocks=2, **network))
    return lambda generator: build_field(settings, BOX, generator, z_dim)


def cryoformer(z_dim: int = 0, **transformer) -> Callable[[torch.Generator], Field]:
    settings = TransformerSettings(queries=2, log_table=10, levels=4, base=4, **transformer)
    chosen = FieldSettings(field="cryoformer", transformer=settings)
    return lambda generator: build_field(chosen, BOX, generator, z_dim)


FIELDS = [
    Case("mlp-gaussian", field("mlp")),
    Case("mlp-geometric", field("mlp", encoding="geometric")),
    Case("siren", field("siren")),
    Case("fouriernet", field("fouriernet")),
    Case("grid", field("grid")),
    Case("voxels", field("voxels")),
    Case("cryoformer-fourier", cryoformer(domain="fourier")),
]
DENSITIES = [
    Case("cryoformer", cryoformer()),
    Case("cryoformer-dense", cryoformer(grid="dense")),
    Case("cryoformer-triplane", cryoformer(grid="triplane")),
    Case("cryoformer-concatenated", cryoformer(deformation="concatenation", region="concatenation")),
]

fields = pytest.mark.parametrize("case", FIELDS, ids=lambda case: case.name)
densities = pytest.mark.parametrize("case", DENSITIES, ids=lambda case: case.name)
all_fields = pytest.mark.parametrize("case", [*FIELDS, *DENSITIES], ids=lambda case: case.name)


@pytest.fixture
def points(generator) -> Tensor:
    """Points of two particles, with the origin and some on the plane x = 0 and the line x = y = 0."""
    points = torch.rand(2, 40, 3, generator=generator) - 0.5
    points[0, 0] = 0
    points[:, 1:8, 0] = 0
    points[:, 4:8, 1] = 0
    return points


@fields
def test_hermitian_symmetry_is_exact(case, generator, points):
    field = case.build(generator)
    there, back = field(points), field(-points)
    assert torch.equal(there.real, back.real)
    assert torch.equal(there.imag, -back.imag)
    assert there[0, 0].imag == 0
    assert there.abs().min() > 0


@fields
def test_shapes_and_types(case, generator, points):
    field = case.build(generator)

    @jaxtyped(typechecker=beartype)
    def checked(p: Float[Tensor, "b p 3"]) -> Complex[Tensor, "b p"]:
        return field(p)

    assert checked(points).dtype == torch.complex64
    assert field.domain == "fourier"


def as_real(values: Tensor) -> Tensor:
    return torch.view_as_real(values) if values.is_complex() else values


@all_fields
def test_points_can_be_learnt_by_gradient(case, generator, points):
    field = case.build(generator).double()
    inside = points.double()[:1, 8:11].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: as_real(field(p)), inside, atol=1e-4)


@all_fields
def test_every_weight_is_reached(case, generator, points):
    field = case.build(generator)
    field(points).abs().square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in field.parameters())


@all_fields
def test_a_state_dict_makes_the_same_field(case, generator, points, tmp_path):
    field = case.build(generator)
    field.scale_to(torch.rand(BOX // 2 + 1))
    other = case.build(torch.Generator().manual_seed(9))
    torch.save(field.state_dict(), tmp_path / "field.pt")
    other.load_state_dict(torch.load(tmp_path / "field.pt", weights_only=True))
    assert torch.equal(field(points), other(points))


@all_fields
def test_reset_follows_the_generator(case, generator, points):
    field = case.build(generator)
    before = field(points)
    field.reset(torch.Generator().manual_seed(4))
    first = field(points)
    field.reset(torch.Generator().manual_seed(4))
    assert torch.equal(first, field(points))
    assert not torch.allclose(first, before)


SMOOTH = [c for c in FIELDS if c.name not in ("voxels", "grid")]


def test_a_grid_of_fine_frequencies_does_not_fold_what_lies_outside_the_box_into_it(generator):
    field = build_field(FieldSettings(field="grid"), BOX, generator)
    wide, network = 2 * BOX, field.network
    ball = radii3(wide) < wide / 2
    inside = torch.nn.functional.pad(torch.randn((BOX,) * 3, generator=generator), (BOX // 2,) * 6)
    outside = torch.randn((wide,) * 3, generator=generator) * (radii3(wide) > 0.9 * BOX)
    spectrum = centred_fft3(inside + outside) * ball
    k = half_space(wide, wide / 2)
    x, y, z = (k.long() + wide // 2).unbind(-1)
    places = half_space(wide + 4, wide / 2 + 1).long()
    rows = {tuple(place): row for row, place in enumerate(places.tolist(), start=1)}
    with torch.no_grad():
        network.maps.zero_()
        value = torch.view_as_real(spectrum[z, y, x].conj().resolve_conj()) / 16
        network.maps[torch.tensor([rows[tuple(place)] for place in k.long().tolist()])] = value
    whole = centred_ifft3(spectrum)[(slice(BOX // 2, BOX // 2 + BOX),) * 3]
    window = torch.sinc((torch.arange(BOX) - BOX // 2) / wide) ** 2
    expected = centred_fft3(whole * window * window[:, None] * window[:, None, None]) * (radii3(BOX) < BOX / 2)
    assert torch.allclose(centred_fft3(field.volume()), expected, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)
def test_the_map_holds_the_field_on_whole_frequencies(case, generator):
    field = case.build(generator)
    spectrum = centred_fft3(field.volume())
    k = half_space(BOX, BOX / 2)
    x, y, z = (k.long() + BOX // 2).unbind(-1)
    assert torch.allclose(spectrum[z, y, x], field((k / BOX)[None])[0], atol=1e-4)


@all_fields
def test_a_band_limits_the_map(case, generator):
    spectrum = centred_fft3(case.build(generator).volume(band=4))
    radius = (torch.stack(torch.meshgrid(*[torch.arange(BOX) - BOX // 2] * 3, indexing="ij")) ** 2).sum(0)
    assert spectrum[radius > 16].abs().max() < 1e-4
    assert spectrum[radius <= 16].abs().min() > 1e-6


@fields
def test_slices_are_its_values_on_planes(case, generator):
    field = case.build(generator)
    rotations = random_rotations(6, generator).view(2, 3, 3, 3)
    lattice = FrequencyLattice.of_box(BOX).prefix(5)
    slices = field.slices(rotations, lattice.k)
    k = torch.cat([lattice.k, torch.zeros(len(lattice), 1)], 1)
    by_hand = field((k @ rotations[1, 2])[None] / BOX)[0]
    assert torch.allclose(slices[1, 2], by_hand, atol=1e-5)


@densities
def test_a_density_is_real_and_ends_at_its_sphere(case, generator, points):
    density = case.build(generator)

    @jaxtyped(typechecker=beartype)
    def checked(p: Float[Tensor, "b p 3"]) -> Float[Tensor, "b p"]:
        return density(p)

    assert checked(points).dtype == torch.float32
    assert density.domain == "real"
    grid = density.on_grid(density.densities()[0])
    assert (grid != 0).equal(radii3(BOX) <= 0.45 * BOX)
    # On a voxel the network says what it says there when it is asked for that place alone.
    place = torch.tensor([[[3.0, -2.0, 1.0]]])
    assert torch.allclose(density(place / BOX)[0, 0], grid[9, 6, 11], atol=1e-5)


@densities
def test_images_are_the_exact_sums_over_voxels(case, generator):
    density, lattice = case.build(generator), FrequencyLattice.of_box(BOX).prefix(6)
    rotations = random_rotations(6, generator).view(2, 3, 3, 3)
    slices = density.slices(rotations, lattice.k)
    expected = PointSum(density.on_grid(density.densities()[0]).detach()).project(rotations[1], lattice)
    assert torch.allclose(slices[1], expected, atol=1e-4 * float(expected.abs().max()))
    upright = density.slices(torch.eye(3)[None, None], lattice.k)[0, 0].detach()
    image = density.on_grid(density.densities()[0]).sum(0)
    assert torch.allclose(upright, lattice.spectrum(image[None])[0], atol=1e-3 * float(upright.abs().max()))


@densities
def test_chunks_of_a_density_change_nothing(case, generator, monkeypatch):
    density, lattice = case.build(generator), FrequencyLattice.of_box(BOX).prefix(6)
    rotations = random_rotations(3, generator)[:, None]
    found = []
    for held, chunk in ((2**21, 2**16), (0, 2000)):
        monkeypatch.setattr("cryoloom.model.fields.density.DENSITIES_HELD", held)
        monkeypatch.setattr("cryoloom.model.fields.density.DENSITIES_PER_CHUNK", chunk)
        density.zero_grad()
        turned = rotations.clone().requires_grad_()
        slices = density.slices(turned, lattice.k)
        slices.abs().square().sum().backward()
        found.append([slices.detach(), turned.grad, *(p.grad.clone() for p in density.parameters())])
    for whole, pieces in zip(*found, strict=True):
        assert torch.allclose(as_real(whole), as_real(pieces), rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


CONFORMED = [Case(name, field(name, z_dim=2)) for name in ("mlp", "siren", "fouriernet", "grid")]
CONFORMED += [
    Case("cryoformer", cryoformer(z_dim=2)),
    Case("cryoformer-concatenated", cryoformer(z_dim=2, deformation="concatenation", region="concatenation")),
    Case("cryoformer-fourier", cryoformer(z_dim=2, domain="fourier")),
]


@pytest.mark.parametrize("case", CONFORMED, ids=lambda case: case.name)
def test_a_conformation_changes_its_own_particle_only(case, generator, points):
    conformed = case.build(generator)
    z = torch.randn(2, 2, generator=generator)
    both, moved = conformed(points, z), conformed(points, z + torch.tensor([[0.0, 0.0], [0.3, 0.0]]))
    assert torch.equal(both[0], moved[0])
    assert not torch.allclose(both[1], moved[1])
    assert torch.allclose(conformed(points[1:], z[1:]), both[1:], atol=1e-5)
    assert conformed.volume(z=z[0]).shape == (BOX,) * 3


@pytest.mark.parametrize("case", CONFORMED, ids=lambda case: case.name)
def test_maps_of_flexible_regions_say_where_conformations_differ(case, generator):
    conformed, z = case.build(generator), torch.randn(5, 2, generator=generator)
    maps = conformed.flexibility(z)
    assert all(volume.shape == (BOX,) * 3 for volume in maps.values())
    assert all(float(volume.max()) < 1e-5 for volume in conformed.flexibility(z[:1].expand(5, -1)).values())
    assert float(maps["flexibility"].max()) > 0
    if conformed.domain == "real":
        expected = conformed.on_grid(conformed.densities(z)).std(0)
        assert torch.allclose(maps["flexibility"], expected, atol=1e-5)
        channels = torch.stack([volume for name, volume in maps.items() if name.startswith("attention_")])
        assert len(channels) > 1
        # No sum can vary more than its parts do together.
        assert (maps["flexibility"] <= channels.sum(0) + 1e-5).all()


def test_voxels_hold_one_volume():
    with pytest.raises(InputError, match="voxels"):
        field("voxels", z_dim=1)(torch.Generator())


def test_slices_of_voxels_are_those_of_their_map(generator):
    voxels, lattice = field("voxels")(generator), FrequencyLattice.of_box(BOX).prefix(5)
    rotations = random_rotations(4, generator)
    # Its map ends at the band of the box, the corners of which random voxels fill too.
    voxels.density.data.copy_(voxels.volume())
    expected = FourierSlice.of_volume(voxels.volume()).project(rotations, lattice)
    assert torch.allclose(voxels.slices(rotations[:, None], lattice.k)[:, 0], expected, atol=1e-3)


@pytest.mark.parametrize("name", ["mlp", "voxels", "cryoformer"])
def test_a_field_starts_as_large_as_the_images(name, generator):
    started = field(name)(generator)
    small, large = torch.ones(BOX // 2 + 1), torch.full((BOX // 2 + 1,), 10.0)
    started.scale_to(small)
    first = started.volume()
    started.scale_to(large)
    assert torch.allclose(started.volume(), 10 * first, rtol=1e-3, atol=1e-4)


class Analytic(FourierField):
    """Two Gaussian blobs off centre, whose transform is known."""

    def __init__(self, box: int):
        super().__init__(box)
        self.width = torch.nn.Parameter(torch.tensor(2.0))
        self.centres = torch.tensor([[3.0, -2.0, 1.0], [-4.0, 1.0, 2.0]])

    def reset(self, generator: torch.Generator) -> None:
        raise NotImplementedError

    def scale_to(self, amplitude: Tensor) -> None:
        raise NotImplementedError

    def forward(self, points: Tensor, z: Tensor | None = None) -> Tensor:
        fall = torch.exp(-2 * torch.pi**2 * self.width**2 * points.square().sum(-1))
        phases = -2 * torch.pi * points @ self.centres.T
        return (torch.polar(fall[..., None].expand_as(phases), phases) * torch.tensor([1.0, 0.5])).sum(-1)


def test_the_map_of_a_field_renders_its_slices(generator):
    field, lattice = Analytic(32), FrequencyLattice.of_box(32).prefix(12)
    rotations = random_rotations(5, generator)
    rendered = FourierSlice.of_volume(field.volume()).project(rotations, lattice)
    direct = field.slices(rotations[:, None], lattice.k)[:, 0]
    assert float(((rendered - direct).norm() / direct.norm()).detach()) < 0.02


def test_the_network_sees_the_positive_half_only(points):
    half, sign = positive_half(points)
    assert (half[..., 0] >= 0).all()
    on_plane = half[..., 0] == 0
    assert (half[..., 1][on_plane] >= 0).all()
    assert torch.equal(sign == 0, (points == 0).all(-1))
    assert torch.equal(half * sign[..., None], points)


def test_features_reach_as_far_as_their_sigma(generator):
    narrow = feature_frequencies(NetworkSettings(feature_sigma=0.5), 64, generator)
    assert narrow.shape == (96, 3)
    assert float(narrow.std()) == pytest.approx(16, rel=0.2)
    axes = feature_frequencies(NetworkSettings(encoding="geometric"), 64, generator)
    assert axes.shape == (96, 3)
    assert ((axes != 0).sum(1) == 1).all()
    assert float(axes.max()) == pytest.approx(32)
