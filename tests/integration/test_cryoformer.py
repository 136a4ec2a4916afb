"""CryoFormer from the shell: density at known poses, poses corrected on the way, every ablation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles, read_volume, write_star
from cryoloom.evaluate.bench.cryoformer import conformation_likeness
from cryoloom.evaluate.regions import agreements_of
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import angular_distance, matrix_from_rotvec
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.run import Run

from .conftest import correlation, cryoloom, particles_of, poses_of, volume_of

QUICK = (
    *("--transformer.queries", 2, "--transformer.levels", 4, "--transformer.log-table", 10, "--transformer.base", 8),
    *("--encoder.layers", 1, "--orientation.layers", 1, "--z-dim", 2, "--device", "cpu"),
    *("--box", 16, "--mask-diameter-angst", 96, "--train.learning-rate", 5e-3, "--train.batch-size", 8),
)


@pytest.fixture(scope="module")
def perturbed(phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true poses, turned by about 15° and moved by up to half a pixel."""
    truth = particles_of(phantom_set / "truth")
    generator, poses = torch.Generator().manual_seed(0), truth.poses()
    turn = matrix_from_rotvec(0.17 * torch.randn(len(truth), 3, generator=generator))
    move = (torch.rand(len(truth), 2, generator=generator) - 0.5) * truth.pixel_size
    path = tmp_path_factory.mktemp("perturbed") / "poses.star"
    write_star(path, truth, pose=Pose.single(turn @ poses.best_rotation.float(), poses.best_shift.float() + move))
    return path


ENCODER = (
    *("--correction.rounds", 0, "--pose-passes", 2, "--pose-rate", 3e-3),
    *("--train.first-band", 4, "--train.last-band", 7, "--train.passes", 8),
)
CORRECTION = ("--correction.rounds", 3, "--z-start", "none", "--train.passes", 1)


@pytest.mark.parametrize(
    ("options", "left", "stages"),
    [
        (ENCODER, 0.9, ["poses-first", "train", "poses", "images", "results"]),
        (CORRECTION, 0.5, ["correction", "train", "images", "results"]),
    ],
    ids=["encoder", "correction"],
)
def test_coarse_poses_are_corrected(phantom_set: Path, perturbed: Path, tmp_path: Path, options, left, stages):
    run = tmp_path / "run"
    given = ("--poses", perturbed, "--refine", "--limit", 200, *options)
    cryoloom("reconstruct", phantom_set / "particles.star", "--system", "cryoformer", "-o", run, *QUICK, *given)
    true = poses_of(phantom_set / "truth").best_rotation[:200]
    before = angular_distance(read_particles(perturbed).poses().best_rotation[:200], true).median()
    after = angular_distance(poses_of(run).best_rotation, true).median()
    assert float(after) < left * float(before)
    assert list(dict.fromkeys(line["stage"] for line in Run.open(run).metrics())) == stages


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 200 images of the phantom, closed or open."""
    folder = tmp_path_factory.mktemp("opening")
    settings = Simulation(box=16, pixel_size=7.2, particles=200, snr=2.0, shift=0.0, seed=0)
    simulate_particles(conformations_of(Source((Path("phantom"),), states=2), 16, 7.2), settings, folder)
    return folder


def test_the_density_at_known_poses_is_the_molecule(opening: Path, tmp_path: Path):
    run, truth = tmp_path / "run", opening / "truth"
    known = ("--poses", truth / "particles.star", "--train.passes", 4)
    cryoloom("reconstruct", opening / "particles.star", "--system", "cryoformer", *QUICK, *known, "-o", run)
    true = torch.stack([read_volume(path)[0] for path in sorted((truth / "conformations").glob("*.mrc"))])
    assert correlation(volume_of(run), true.mean(0)) > 0.7
    assert np.load(run / "latents.npz")["z_mean"].shape == (200, 2)
    # The box ends at 14.4 Å.
    found = conformation_likeness(run, truth)
    assert 14 < found.resolution < 40
    assert 0 < found.moving < 0.5
    assert 0.1 < found.area < 0.5
    found = agreements_of(run, truth)
    assert len([name for name in found if name.startswith("attention_")]) > 1
    assert all(-1 <= value <= 1 for value in found.values())
    assert float(volume_of(run, "flexibility").min()) >= 0


def test_what_an_encoder_cannot_say_is_kept_as_it_was_taught(opening: Path, tmp_path: Path):
    run, truth = tmp_path / "run", opening / "truth"
    deaf = ("--poses", truth / "particles.star", "--train.passes", 4, "--encoder-rate", 1e-9)
    cryoloom("reconstruct", opening / "particles.star", "--system", "cryoformer", *QUICK, *deaf, "-o", run)
    assert "silent-encoder" in [alarm["name"] for alarm in json.loads((run / "alarms.json").read_text())]
    z, true = np.load(run / "latents.npz")["z_mean"], particles_of(truth).column("conformation").astype(float)
    assert abs(np.corrcoef(z[:, 0], true)[0, 1]) > 0.8


ABLATIONS = [
    ("--transformer.domain", "fourier"),
    ("--transformer.deformation", "concatenation"),
    ("--transformer.region", "concatenation"),
    ("--transformer.grid", "triplane"),
]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda a: a[1] + a[0].rpartition(".")[2])
def test_every_ablation_runs_at_known_poses(phantom_set: Path, tmp_path: Path, ablation):
    known = ("--poses", phantom_set / "truth" / "particles.star", "--train.passes", 1, "--limit", 48)
    common = ("reconstruct", phantom_set / "particles.star", "--system", "cryoformer", *QUICK)
    run = tmp_path / "run"
    cryoloom(*common, *known, *ablation, "-o", run)
    assert float(volume_of(run).std()) > 0
    channels = list((run / "volumes").glob("attention_*.mrc"))
    assert bool(channels) == ("fourier" not in ablation)
    assert torch.allclose(poses_of(run).rotation, poses_of(phantom_set / "truth").rotation[:48], atol=1e-5)
