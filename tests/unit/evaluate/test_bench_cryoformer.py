"""The benchmarks of CryoFormer: how poses are perturbed, how speed is taken, and where the tables are."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.evaluate.bench.catalogue import find_table
from cryoloom.evaluate.bench.cryoformer import perturb
from cryoloom.evaluate.bench.density_speed import _along_rays, density_speed
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.density import DensityField
from cryoloom.model.fields.settings import FieldSettings, TransformerSettings
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.so3 import angular_distance, random_rotations
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation

SMALL = TransformerSettings(queries=2, levels=3, base=4, log_table=8)


def test_poses_are_perturbed_by_what_is_asked(tmp_path: Path):
    settings = Simulation(box=16, pixel_size=7.2, particles=300, shift=1.0, seed=0)
    simulate_particles(conformations_of(Source((Path("phantom"),)), 16, 7.2), settings, tmp_path)
    median = perturb(tmp_path / "truth", tmp_path / "start.star", 0.1, 2.0)
    # Of a normal vector of three numbers with variance 0.1 the median length is 0.486.
    assert median == pytest.approx(0.486, rel=0.1)
    true, start = (read_particles(path) for path in (tmp_path / "truth/particles.star", tmp_path / "start.star"))
    turned = angular_distance(true.poses().best_rotation, start.poses().best_rotation).median()
    assert float(turned.deg2rad()) == pytest.approx(median, rel=1e-3)
    moved = (true.poses().best_shift - start.poses().best_shift).abs() / 7.2
    assert 1.8 < float(moved.max()) <= 2.0 + 1e-3


def test_rays_and_voxels_make_the_same_images_of_a_smooth_density(generator):
    # With features as coarse as this the density hardly changes from voxel to voxel.
    smooth = TransformerSettings(queries=1, levels=1, base=2, log_table=8, grid="hash")
    field = build_field(FieldSettings(field="cryoformer", transformer=smooth), 24, generator, 8)
    assert isinstance(field, DensityField)
    with torch.no_grad():
        field.network.grid.table.mul_(10)
        rotations, z = random_rotations(2, generator)[:, None], torch.randn(2, 8, generator=generator)
        k = FrequencyLattice.of_box(24).prefix(3).k
        voxels, rays = field.slices(rotations, k, z), _along_rays(field)(rotations, k, z)
    assert float((voxels - rays).norm() / voxels.norm()) < 0.1


@pytest.mark.parametrize("rays", [False, True])
def test_speeds_are_taken(rays):
    found = density_speed(SMALL, 16, "cpu", rays)
    assert found.seconds > 0
    assert found.points_per_s > 0


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "fig5"])
def test_every_table_is_there_at_every_scale(name):
    table = find_table(f"cryoformer-{name}")
    assert set(table.scales) == {"mini", "paper", "quick"}
    assert table.scales["paper"].device == "cuda"
