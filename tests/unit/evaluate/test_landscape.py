"""Clusters, densities and ways in latent spaces of known structure; what latents must not encode; moving voxels."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, spearmanr

from cryoloom.data.particles import Particles
from cryoloom.data.read import read_particles
from cryoloom.errors import InputError
from cryoloom.evaluate.clusters import best_mixture, fit_mixture, k_means, log_density, representatives
from cryoloom.evaluate.confounds import confounds, warnings_of
from cryoloom.evaluate.embedding import PCA, umap_of
from cryoloom.evaluate.flexibility import flexibility_of
from cryoloom.evaluate.traversal import along_axis, along_graph, graph_path, read_points
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations

N = 1500


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def blobs_of(rng: np.random.Generator, centres: np.ndarray, each: int = 400) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(centres)), each)
    return centres[labels] + rng.normal(size=(len(labels), centres.shape[1])), labels


def test_components_are_those_of_the_covariance(rng):
    z = rng.normal(size=(N, 3)) * (3.0, 1.0, 0.2) @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + 5
    pca = PCA.of(z)
    scores = pca.scores(z)
    assert np.allclose(np.cov(scores, rowvar=False), np.diag(pca.variance), atol=1e-9)
    assert pca.variance[0] > pca.variance[1] > pca.variance[2]
    assert pca.explained.sum() == pytest.approx(1)
    assert np.allclose(pca.z_of(scores), z)
    assert PCA.of(z[:, :1]).axes.tolist() == [[1.0]]


def test_k_means_finds_blobs_in_order(rng):
    z, true = blobs_of(rng, np.array([[0.0, 0, 0], [9, 0, 0], [18, 3, 0]]))
    centres, labels = k_means(z, 3, seed=0)
    assert len(centres) == 3
    assert (labels == true).mean() > 0.99 or (labels == 2 - true).mean() > 0.99
    rows = representatives(z, centres)
    assert labels[rows].tolist() == [0, 1, 2]
    assert k_means(np.zeros((20, 2)), 5, seed=0)[1].max() == 0


def test_a_mixture_tells_long_groups_apart_and_how_many_there_are(rng):
    long = rng.normal(size=(2, 600, 2)) * (8.0, 0.5)
    z = np.concatenate([long[0], long[1] + (0, 5)])
    true = np.repeat([0, 1], 600)
    mixture = best_mixture(z, 5, seed=0)
    assert len(mixture.weights) == 2
    labels = mixture.labels(z)
    assert max((labels == true).mean(), (labels != true).mean()) > 0.99
    split = k_means(z, 2, seed=0)[1]
    assert max((split == true).mean(), (split != true).mean()) < 0.7
    expected = multivariate_normal(z.mean(0), np.cov(z, rowvar=False, bias=True)).logpdf(z)
    assert np.allclose(fit_mixture(z, 1, seed=0).log_parts(z)[:, 0], expected, atol=1e-3)


def test_density_follows_the_truth(rng):
    z = rng.normal(size=(N, 2))
    assert spearmanr(log_density(z, seed=0), -np.square(z).sum(1)).statistic > 0.9


def test_one_dimension_is_enough(rng):
    z = np.concatenate([rng.normal(size=(300, 1)), rng.normal(size=(300, 1)) + 20])
    assert k_means(z, 2, seed=0)[1].tolist() == [0] * 300 + [1] * 300
    assert len(best_mixture(z, 3, seed=0).weights) == 2
    assert spearmanr(log_density(z[:300], seed=0), -np.abs(z[:300, 0])).statistic > 0.7
    assert (np.diff(along_graph(z, 6, seed=0)[:, 0]) >= 0).all()


def horseshoe(rng: np.random.Generator) -> np.ndarray:
    angle = np.sort(rng.uniform(0, 1.5 * np.pi, N))
    return np.stack([10 * np.cos(angle), 8 * np.sin(angle)], 1) + 0.1 * rng.normal(size=(N, 2))


def test_the_graph_goes_round_not_across(rng):
    z = horseshoe(rng)
    path = graph_path(z, 0, N - 1, seed=0)
    assert (path[0], path[-1]) == (0, N - 1)
    length = np.linalg.norm(np.diff(z[path], axis=0), axis=1).sum()
    assert length > 3 * np.linalg.norm(z[0] - z[-1])
    points = along_graph(z, 9, seed=0)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert steps.max() < 1.6 * steps.min()
    assert (np.abs(points[:, None] - z[None]).sum(-1).min(1) == 0).all()


def test_the_graph_bridges_gaps(rng):
    z = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 40, rng.normal(size=(300, 2)) + 80])
    path = graph_path(z, 0, 899, seed=0)
    assert (np.diff(path // 300) >= 0).all()
    assert set(path // 300) == {0, 1, 2}


def test_axes_by_name(rng):
    z = rng.normal(size=(N, 2)) * (3.0, 1.0)
    points = along_axis(z, "pc1", 5)
    assert points.shape == (5, 2)
    assert np.allclose(np.diff(points, 2, axis=0), 0)
    assert np.percentile(z[:, 0], 5) == pytest.approx(points[:, 0].min(), abs=0.3)
    for name in ("pc0", "pc3", "pcx", "umap"):
        with pytest.raises(InputError, match="there is no"):
            along_axis(z, name, 5)


@pytest.mark.parametrize("text", ["z1,z2\n1,2\n3,4\n", "1 2\n3\t4\n", "# mine\n1;2\n3;4\n"])
def test_points_of_a_file(tmp_path, text):
    (tmp_path / "z.csv").write_text(text)
    assert read_points(tmp_path / "z.csv", 2).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "said"),
    [("1,2,3\n", "3 numbers a line"), ("1,2\n3,x\n", "row 2"), ("", "cannot be read"), ("a,b\n", "no row")],
)
def test_points_that_are_none(tmp_path, text, said):
    (tmp_path / "z.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_points(tmp_path / "z.csv", 2)


@pytest.fixture
def particles(tmp_path, rng, generator) -> Particles:
    """Particles with random poses and defocus, without images."""
    rows = "\n".join(
        f"{i + 1:06d}@none.mrcs {d:.1f} {d:.1f} 0 300 2.7 0.1 2.0" for i, d in enumerate(rng.uniform(8e3, 2e4, N))
    )
    labels = (
        "ImageName",
        "DefocusU",
        "DefocusV",
        "DefocusAngle",
        "Voltage",
        "SphericalAberration",
        "AmplitudeContrast",
    )
    header = "\n".join(f"_rln{label}" for label in (*labels, "ImagePixelSize"))
    (tmp_path / "p.star").write_text(f"data_images\n\nloop_\n{header}\n{rows}\n")
    shift = torch.from_numpy(rng.normal(size=(N, 2))).float()
    return read_particles(tmp_path / "p.star").with_poses(Pose.single(random_rotations(N, generator), shift))


def test_conformations_that_follow_nothing_pass(particles, rng):
    found = confounds(rng.normal(size=(N, 3)), particles, seed=0)
    assert {c.name for c in found} == {"viewing direction", "in-plane angle", "defocus", "shift"}
    assert max(c.whole for c in found) < 0.02
    assert warnings_of(found) == []


@pytest.mark.parametrize("name", ["viewing direction", "in-plane angle", "defocus", "shift"])
def test_conformations_that_follow_what_they_must_not_are_told(particles, rng, name):
    rotation = np.asarray(particles.rotation)
    psi = np.arctan2(rotation[:, 1, 2], -rotation[:, 0, 2])
    signal = {
        "viewing direction": np.abs(rotation[:, 2, 2]),
        "in-plane angle": np.cos(2 * psi + 0.3),
        "defocus": particles.column("defocus_u"),
        "shift": particles.column("shift_x") ** 2,
    }[name]
    scores = rng.normal(size=(N, 2))
    scores[:, 0] += 1.5 * (signal - signal.mean()) / signal.std()
    warned = warnings_of(confounds(scores, particles, seed=0))
    assert [w["name"] for w in warned] == [f"latent follows {name}"]


def test_moving_voxels_are_found(blobs, generator):
    moving = torch.zeros_like(blobs)
    moving[10:14, 10:14, 10:14] = 1
    t = torch.randn(30, generator=generator)
    weights = torch.randint(1, 50, (30,), generator=generator).float()
    found = flexibility_of(blobs + t[:, None, None, None] * moving, weights)
    w = weights / weights.sum()
    mean = (w * t).sum()
    spread = (w * (t - mean) ** 2).sum().sqrt()
    assert torch.allclose(found.mean, blobs + mean * moving, atol=1e-5)
    assert torch.allclose(found.variability, spread * moving, atol=1e-5)
    assert float(found.explained[0]) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(found.components[0].abs(), spread * moving, atol=1e-4)
    assert abs(float(torch.corrcoef(torch.stack([found.scores[:, 0], t]))[0, 1])) > 0.999


def test_umap_that_is_absent_is_said(monkeypatch, rng):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(InputError, match="not installed"):
        umap_of(rng.normal(size=(10, 2)), seed=0)


def test_umap_keeps_neighbours(rng):
    pytest.importorskip("umap", reason="umap-learn is not installed")
    z, labels = blobs_of(rng, np.array([[0.0, 0], [30, 0]]), each=100)
    places = umap_of(z, seed=0, particles=150)
    known = np.isfinite(places[:, 0])
    assert known.sum() == 150
    first, second = (places[known & (labels == k)].mean(0) for k in (0, 1))
    assert np.linalg.norm(first - second) > 2
