"""Systems with conformations from the shell: they leave what is promised, junk is told apart, nonsense is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.errors import InputError
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.decode import Decoder
from cryoloom.solve.run import Run

from .conftest import cryoloom, particles_of, poses_of, unexplained

N = 400
FAST = ("--field", "grid", "--network.width", 32, "--encoder.width", 8, "--encoder.box", 16, "--device", "cpu")
ONE = ("--z-dim", 1, "--train.passes", 3, "--train.first-band", 8, "--train.last-band", 8, "--settle-passes", 1)


@pytest.fixture(scope="module")
def hinge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles.star and truth/ of 400 images of the phantom opening in 8 steps; a tenth of them is noise."""
    folder = tmp_path_factory.mktemp("hinge")
    settings = Simulation(box=24, pixel_size=4.8, particles=N, snr=1.0, shift=1.0, junk=0.1, seed=0)
    source = Source((Path("phantom"),), states=8)
    simulate_particles(conformations_of(source, settings.box, settings.pixel_size), settings, folder)
    return folder


def junk_of(folder: Path) -> np.ndarray:
    return particles_of(folder / "truth").column("conformation").astype(int) < 0


@pytest.fixture(scope="module")
def found(hinge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cryodrgn at the true poses."""
    run = tmp_path_factory.mktemp("found") / "run"
    known = ("--poses", hinge / "truth" / "particles.star")
    cryoloom("reconstruct", hinge / "particles.star", "--system", "cryodrgn", *known, *FAST, *ONE, "-o", run)
    return run


def test_the_stages_are_those_that_are_promised(found: Path):
    latents = np.load(found / "latents.npz")
    assert latents["z_mean"].shape == latents["z_log_var"].shape == (N, 1)
    # What was settled is narrower than the prior, and differs from particle to particle.
    assert np.exp(0.5 * latents["z_log_var"]).mean() < 0.8
    assert latents["z_mean"].std() > 0.1
    stages = [(line["stage"], line.get("pass")) for line in Run.open(found).metrics()]
    assert list(dict.fromkeys(stages)) == [
        *(
            ("prepare", "train"),
            ("components", "components"),
            ("train", "train"),
            ("settle", "settle"),
            ("settle", "train"),
        ),
        *(("latents", "settle"), ("images", None), ("results", None)),
    ]


def test_a_run_of_another_data_set_is_refused(hinge: Path, found: Path, tmp_path: Path):
    other = tmp_path / "other.star"
    other.write_text((hinge / "particles.star").read_text().replace("particles.mrcs", "renamed.mrcs"))
    shutil.copyfile(hinge / "particles.mrcs", tmp_path / "renamed.mrcs")
    common = ("--system", "cryodrgn", "--init", found, "--datadir", tmp_path, *FAST, *ONE)
    said = cryoloom("reconstruct", other, *common, "-o", tmp_path / "run", code=2)
    assert "holds none of the images of" in said
    assert "it names image 1 of" in said
    assert "Traceback" not in said


def test_evaluate_tells_of_conformations(hinge: Path, found: Path):
    cryoloom("evaluate", found, "--truth", hinge / "truth")
    result = json.loads((found / "evaluation.json").read_text())
    assert 0.1 < result["per_particle_fsc_auc_mean"] <= 0.5
    assert 0.1 < result["per_conformation_fsc_auc_mean"] <= 0.5
    assert 0 < result["latent_neighbour_accuracy"] < 1
    assert result["oracle_conformation_correlation"] > 0.75
    assert 0 < result["conformation_adjusted_rand_index"] < 1
    assert result["junk_auc"] > 0.95
    ratio = result["conformation_correlation"] / result["oracle_conformation_correlation"]
    assert result["conformation_correlation_over_oracle"] == pytest.approx(ratio)
    both = ("latent_to_truth", "truth_to_latent")
    assert all(0 < result[f"information_imbalance_{way}"] < 1.2 for way in both)


def test_maps_of_conformations_differ_as_the_truth_does(hinge: Path, found: Path):
    decoder = Decoder.of_run(found)
    order = decoder.z[~junk_of(hinge), 0].argsort()
    ends = [decoder.volume(decoder.z[~junk_of(hinge)][order[i]]) for i in (20, -20)]
    assert not torch.allclose(ends[0], ends[1], rtol=0.05)
    assert float((ends[0] ** 3).mean()) > 0
    with pytest.raises(InputError, match="z-dim 1, but 3 numbers"):
        decoder.volume(torch.zeros(3))


def test_a_run_without_conformations_has_no_decoder(finished: Path):
    with pytest.raises(InputError, match=r"no latents\.npz"):
        Decoder.of_run(finished)


def test_a_table_of_conformations(hinge: Path, tmp_path: Path):
    known = ("--poses", hinge / "truth" / "particles.star", "--conformation", "table", "--settle-rounds", 0)
    cryoloom(
        "reconstruct", hinge / "particles.star", "--system", "cryodrgn", *known, *FAST, *ONE, "-o", tmp_path / "run"
    )
    z = np.load(tmp_path / "run" / "latents.npz")["z_mean"]
    assert z.shape == (N, 1)
    assert len(np.unique(z)) == N


def test_poses_and_conformations_together(hinge: Path, tmp_path: Path):
    star, truth = hinge / "particles.star", particles_of(hinge / "truth").poses()
    quick = ("--conform.passes", 3, "--conform.first-band", 8, "--conform.last-band", 8, "--settle-passes", 1)
    search = ("--representatives", 3, "--search-rounds", 1)
    common = ("reconstruct", star, "--system", "cryodrgn2", "--z-dim", 1, *FAST, *quick, *search)
    known = ("--poses", hinge / "truth" / "particles.star")
    cryoloom(*common, *known, "-o", tmp_path / "kept")
    assert torch.allclose(poses_of(tmp_path / "kept").rotation, truth.rotation, atol=1e-5)
    cryoloom(*common, "--init", tmp_path / "kept", "-o", tmp_path / "polished")
    moved = poses_of(tmp_path / "polished").rotation
    assert not torch.allclose(moved, truth.rotation, atol=1e-3)
    errors = (moved - truth.rotation).square().sum((-1, -2))[~junk_of(hinge)]
    assert float(errors.median()) < 0.03


def test_hetem_reads_poses_and_conformations(hinge: Path, tmp_path: Path):
    quick = ("--encoder.width", 4, "--network.width", 32, "--train.passes", 3, "--pose-passes", 2, "--z-dim", 2)
    common = ("reconstruct", hinge / "particles.star", "--system", "hetem", "--device", "cpu", *quick)
    cryoloom(*common, "-o", tmp_path / "run")
    lines = Run.open(tmp_path / "run").metrics()
    assert [line["stage"] for line in lines] == ["poses first", "poses first", "joint", "poses", "images", "results"]
    assert [line["kl"] > 0 for line in lines[:3]] == [False, False, True]
    first, last = unexplained(tmp_path / "run")
    assert last < 0.95 * first
    assert np.load(tmp_path / "run" / "latents.npz")["z_mean"].shape == (N, 2)
    decoder = Decoder.of_run(tmp_path / "run")
    assert not torch.equal(decoder.volume(torch.full((2,), 3.0)), decoder.volume(torch.full((2,), -3.0)))
    assert "takes none" in cryoloom(*common, "--poses", hinge / "truth/particles.star", "-o", tmp_path / "no", code=2)
    assert "leaves none" in cryoloom(*common, "--pose-passes", 9, "-o", tmp_path / "none", code=2)


def test_nonsense_is_refused(hinge: Path, tmp_path: Path):
    common = ("reconstruct", hinge / "particles.star", "--system", "cryodrgn")
    assert "needs poses" in cryoloom(*common, "-o", tmp_path / "without", code=2)
    known = ("--poses", hinge / "truth" / "particles.star")
    assert "--z-dim 0" in cryoloom(*common, *known, "--z-dim", 0, "-o", tmp_path / "one", code=2)
