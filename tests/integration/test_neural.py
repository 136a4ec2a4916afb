"""Neural systems from the shell: cryodrgn2 finds poses, all go on after a stop and refuse what they cannot use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.solve.run import Run

from .conftest import correlation, cryoloom, particles_of, poses_of, unexplained, volume_of

SMALL = ("--network.width", 64, "--network.blocks", 2, "--device", "cpu")
# A clear molecule in 24 pixels needs neither many rounds nor many images.
MARCH = (
    *("--march.rounds", 16, "--march.first-images", 150, "--march.last-images", 250, "--march.march-rate", 2e-3),
    *("--march.full-passes", 6, "--march.learning-rate", 3e-3, "--search.subdivisions", 2, "--march.last-band", 8),
)
GRADUAL = (*SMALL, "--train.passes", 2)


@pytest.fixture(scope="module")
def found(phantom_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cryodrgn2 from nothing."""
    run = tmp_path_factory.mktemp("neural") / "run"
    cryoloom("reconstruct", phantom_set / "particles.star", "--system", "cryodrgn2", "-o", run, *SMALL, *MARCH)
    return run


def evaluated(run: Path, truth: Path) -> dict:
    cryoloom("evaluate", run, "--truth", truth)
    return json.loads((run / "evaluation.json").read_text())


def test_cryodrgn2_finds_poses_and_a_map(phantom_set: Path, found: Path):
    result = evaluated(found, phantom_set / "truth")
    # Random poses lie at 6.6 and 130°.
    assert result["rotation_error_deg_median"] < 15
    assert result["shift_error_px_median"] < 0.6
    assert result["resolution_over_oracle"] < 1.6


def test_it_leaves_what_is_promised(found: Path):
    assert float(volume_of(found).std()) > 0
    assert len(particles_of(found)) == 400
    stages = [line["stage"] for line in Run.open(found).metrics()]
    assert list(dict.fromkeys(stages)) == ["pretrain", "march", "align", "train", "refine", "images", "results"]
    assert Run.open(found).finished
    assert not (found / "lock.json").exists()


def test_the_map_is_positive(phantom_set: Path, found: Path):
    volume = volume_of(found)
    assert float((volume**3).mean()) > 0


def test_stopped_it_goes_on_as_if_nothing_had_happened(phantom_set, found, tmp_path, monkeypatch):
    save, run = Run.save_checkpoint, tmp_path / "run"

    def stop(self: Run, step: int, state: dict) -> None:
        save(self, step, state)
        if step == 35:
            raise KeyboardInterrupt

    arguments = ("reconstruct", phantom_set / "particles.star", "--system", "cryodrgn2", "-o", run, *SMALL, *MARCH)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_checkpoint", stop)
        cryoloom(*arguments, code=130)
    cryoloom("resume", run)
    assert torch.equal(volume_of(run), volume_of(found))
    assert torch.equal(poses_of(run).rotation, poses_of(found).rotation)


def test_known_poses_are_kept_and_refinement_polishes_them(phantom_set: Path, tmp_path: Path):
    given = ("--poses", phantom_set / "truth" / "particles.star", "--march.full-passes", 6)
    common = ("reconstruct", phantom_set / "particles.star", "--system", "cryodrgn2", *SMALL, *given)
    cryoloom(*common, "--march.learning-rate", 3e-3, "-o", tmp_path / "kept")
    assert torch.allclose(poses_of(tmp_path / "kept").rotation, poses_of(phantom_set / "truth").rotation, atol=1e-5)
    assert evaluated(tmp_path / "kept", phantom_set / "truth")["resolution_over_oracle"] < 1.3


def test_gradient_on_poses_starts_from_a_field(phantom_set: Path, found: Path, tmp_path: Path):
    common = ("reconstruct", phantom_set / "particles.star", "--system", "pose-gd", *GRADUAL)
    cryoloom(*common, "--init", found, "--start", "given", "-o", tmp_path / "near")
    cryoloom(*common, "--init", found, "-o", tmp_path / "far")
    assert correlation(volume_of(tmp_path / "near"), volume_of(found)) > 0.8
    near, far = (evaluated(tmp_path / name, phantom_set / "truth") for name in ("near", "far"))
    assert near["rotation_error_deg_median"] < 20 < far["rotation_error_deg_median"]


def test_poses_from_an_encoder(phantom_set: Path, tmp_path: Path):
    run = tmp_path / "run"
    cryoloom("reconstruct", phantom_set / "particles.star", "--system", "pose-vae", "-o", run, *GRADUAL)
    first, last = unexplained(run)
    assert last < 0.97 * first
    assert torch.isfinite(volume_of(run)).all()
    assert len(poses_of(run).rotation) == 400


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--system", "cryodrgn2", "--march.first-band", 9, "--march.last-band", 6), "first-band"),
        (("--system", "cryodrgn2", "--max-shift-angst", 900), "does not fit images"),
        (("--system", "cryodrgn2", "--network.encoding", "fourier"), "encoding"),
        (("--system", "pose-gd", "--start", "given"), "no poses are given"),
        (("--system", "pose-vae", "--poses", "known"), "no poses"),
        (("--system", "cryoformer"), "needs poses"),
        (("--system", "cryoformer", "--transformer.domain", "hartley"), "domain"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(phantom_set: Path, tmp_path: Path, arguments, said):
    output = cryoloom("reconstruct", phantom_set / "particles.star", "-o", tmp_path / "run", *arguments, code=2)
    assert said in output
    assert "Traceback" not in output
    # The same command, mended, may take the same directory.
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_system_is_refused(phantom_set: Path, finished: Path, found: Path, tmp_path: Path):
    common = ("reconstruct", phantom_set / "particles.star", "--system", "pose-gd")
    said = cryoloom(*common, "--init", finished, "-o", tmp_path / "loom", code=2)
    assert "is a run of loom" in said
    said = cryoloom(*common, "--init", found, "-o", tmp_path / "wide", code=2)
    assert "has other settings or another box" in said


def test_conformations_at_known_poses(phantom_set: Path, tmp_path: Path):
    run, known = tmp_path / "run", phantom_set / "truth" / "particles.star"
    common = ("reconstruct", phantom_set / "particles.star", "--system", "cryodrgn", *GRADUAL)
    assert "needs poses" in cryoloom(*common, "-o", tmp_path / "without", code=2)
    cryoloom(*common, "--z-dim", 2, "--poses", known, "-o", run)
    latents = np.load(run / "latents.npz")
    assert latents["z_mean"].shape == latents["z_log_var"].shape == (400, 2)
    assert latents["particle"].tolist() == list(range(400))
    written = particles_of(run)
    assert np.allclose(written.column("latent_1"), latents["z_mean"][:, 0], atol=1e-5)
    assert torch.allclose(poses_of(run).rotation, poses_of(phantom_set / "truth").rotation, atol=1e-5)


@pytest.mark.parametrize("options", [("--system", "cryoai"), ("--system", "cryoposenet", "--pose-head", "euler")])
def test_poses_read_off_images(phantom_set: Path, tmp_path: Path, options):
    quick = ("--encoder.width", 4, "--network.width", 32, "--train.passes", 5, "--device", "cpu")
    said = cryoloom("reconstruct", phantom_set / "particles.star", *options, *quick, "-o", tmp_path / "run")
    # So few passes find no poses, and whoever looks at the terminal only is told so.
    assert "A search finds another pose than the network read" in said
    first, last = unexplained(tmp_path / "run")
    assert last < 0.9 * first
    assert torch.isfinite(volume_of(tmp_path / "run")).all()
    assert len(poses_of(tmp_path / "run").rotation) == 400


def test_a_trained_network_predicts_and_loom_refines(phantom_set: Path, finished: Path, tmp_path: Path):
    quick = ("--encoder.width", 4, "--network.width", 32, "--train.passes", 2, "--device", "cpu", "--polish")
    quick = (*quick, "--pose-kl", 1)
    particles, run = phantom_set / "particles.star", tmp_path / "run"
    more = ("--refinement.iterations", 2)
    cryoloom("reconstruct", particles, "--system", "cryoai", *quick, *more, "-o", run)
    assert (run / "volumes" / "half_1.mrc").exists()
    alone = poses_of(run / "network").rotation
    assert not torch.allclose(alone, poses_of(run).rotation, atol=1e-3)
    assert not torch.equal(volume_of(run / "network"), volume_of(run))
    assert float(particles_of(run).column("rotation_sigma_deg").min()) > 0
    said = cryoloom("predict", run, particles, "-o", tmp_path / "posed.star")
    assert "a second" in said
    posed = read_particles(tmp_path / "posed.star")
    predicted = posed.poses()
    assert len(predicted.rotation) == 400
    assert float(posed.column("rotation_sigma_deg").min()) > 0
    # The images decide, not their order or number.
    cryoloom("predict", run, particles, "--limit", 37, "-o", tmp_path / "few.star")
    few = read_particles(tmp_path / "few.star").poses()
    assert torch.allclose(few.rotation, predicted.rotation[:37], atol=1e-3)
    said = cryoloom("predict", finished, particles, "-o", tmp_path / "no.star", code=2)
    assert "which reads no poses off images" in said


def test_a_network_begins_with_a_volume_that_searches_found(phantom_set: Path, tmp_path: Path):
    quick = ("--encoder.width", 4, "--network.width", 32, "--train.passes", 1, "--device", "cpu", "--limit", 40)
    begun = ("--searches", 2, "--readings", 4000, "--encoder.flat", 1)
    cryoloom(
        "reconstruct", phantom_set / "particles.star", "--system", "cryoai", *quick, *begun, "-o", tmp_path / "run"
    )
    lines = Run.open(tmp_path / "run").metrics()
    stages = [(line["stage"], line.get("pass")) for line in lines]
    assert list(dict.fromkeys(stages)) == [
        *(("pretrain", "train"), ("march", "search"), ("march", "train"), ("reading", "train")),
        *(("train", "train"), ("poses", "infer"), ("images", None), ("results", None)),
    ]
    losses = [line["loss"] for line in lines if line["stage"] == "reading"]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_the_symmetric_loss_can_be_switched(phantom_set: Path, tmp_path: Path):
    quick = ("--encoder.width", 4, "--network.width", 32, "--train.passes", 1, "--device", "cpu", "--limit", 40)
    common = ("reconstruct", phantom_set / "particles.star", *quick)
    cryoloom(*common, "--system", "cryoai", "--no-symmetric-loss", "-o", tmp_path / "off")
    cryoloom(*common, "--system", "cryoposenet", "--symmetric-loss", "-o", tmp_path / "on")
    assert Run.open(tmp_path / "off").config.settings["symmetric_loss"] is False
    assert Run.open(tmp_path / "on").config.settings["symmetric_loss"] is True
