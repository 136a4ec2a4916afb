"""What is done with a run's conformations: maps of any z, selections, analysis, export."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cryoloom.data import read_particles, read_volume
from cryoloom.data.rows import copy_rows
from cryoloom.errors import InputError
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.trained import read_latents, trained_field

from .conftest import PIXEL_SIZE, correlation, cryoloom, volume_of

Z_DIM = 2


@pytest.fixture(scope="module")
def hinge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with particles.star and truth/: 50 movies of 8 frames in which the phantom opens, box 24, SNR 2."""
    folder = tmp_path_factory.mktemp("hinge")
    settings = Simulation(box=24, pixel_size=PIXEL_SIZE, snr=2.0, shift=1.0, movies=50, frames=8, seed=0)
    volumes = conformations_of(Source((Path("phantom"),), states=8), settings.box, settings.pixel_size)
    simulate_particles(volumes, settings, folder)
    return folder


@pytest.fixture(scope="module")
def run(hinge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cryodrgn on it, at the true poses."""
    folder = tmp_path_factory.mktemp("landscape") / "run"
    small = ("--network.width", 64, "--network.blocks", 2, "--train.passes", 12, "--device", "cpu", "--beta", 0.3)
    known = ("--poses", hinge / "truth" / "particles.star", "--z-dim", Z_DIM)
    cryoloom("reconstruct", hinge / "particles.star", "--system", "cryodrgn", *known, *small, "-o", folder)
    return folder


def maps_in(folder: Path) -> list[torch.Tensor]:
    return [read_volume(path)[0] for path in sorted(folder.glob("volume_*.mrc"))]


def test_the_trained_field_is_the_run_s(run: Path):
    field = trained_field(run)
    assert (field.z_dim, field.box) == (Z_DIM, 24)
    assert torch.equal(field.volume(), volume_of(run))
    z = torch.tensor([1.0, -1.0])
    assert not torch.equal(field.volume(z), field.volume())
    small = field.volume(z, 16)
    assert small.shape == (16, 16, 16)
    assert correlation(small, field.volume(z)[4:20, 4:20, 4:20]) < 1 == round(correlation(small, field.volume(z, 16)))


def test_maps_along_an_axis(run: Path, tmp_path: Path):
    cryoloom("volumes", run, "--along", "pc1", "--steps", 4, "-o", tmp_path / "pc1")
    maps = maps_in(tmp_path / "pc1")
    assert len(maps) == 4
    # The way goes on: the ends differ more than neighbours do.
    assert correlation(maps[0], maps[3]) < correlation(maps[0], maps[1])
    points = pd.read_csv(tmp_path / "pc1" / "z.csv").to_numpy()
    assert points.shape == (4, Z_DIM)
    film = Image.open(tmp_path / "pc1" / "film.gif")
    assert film.n_frames == 6
    script = (tmp_path / "pc1" / "open.cxc").read_text()
    assert "volume_003.mrc" in script
    assert "vseries" in script
    cryoloom("volumes", run, "--at", tmp_path / "pc1" / "z.csv", "-o", tmp_path / "at")
    for a, b in zip(maps, maps_in(tmp_path / "at"), strict=True):
        assert torch.allclose(a, b, atol=1e-3 * float(b.abs().max()))


def test_maps_along_the_graph_are_those_of_particles(run: Path, tmp_path: Path):
    cryoloom("volumes", run, "--along", "graph", "--steps", 5, "--box", 16, "-o", tmp_path / "graph")
    z = read_latents(run).mean.double().numpy()
    points = pd.read_csv(tmp_path / "graph" / "z.csv").to_numpy()
    assert np.abs(points[:, None] - z[None]).sum(-1).min(1).max() < 1e-6
    first, pixel_size = read_volume(tmp_path / "graph" / "volume_000.mrc")
    assert first.shape == (16, 16, 16)
    assert pixel_size == pytest.approx(PIXEL_SIZE * 24 / 16, rel=1e-4)


def test_maps_of_particles_and_movies(run: Path, tmp_path: Path):
    cryoloom("volumes", run, "--particles", 12, 40, "-o", tmp_path / "two")
    field, z = trained_field(run), read_latents(run).mean
    for made, row in zip(maps_in(tmp_path / "two"), (12, 40), strict=True):
        assert torch.allclose(made, field.volume(z[row]), atol=1e-3 * float(made.abs().max()))
    particles = read_particles(run / "particles.star")
    movie, rows = next(iter(particles.movies().items()))
    cryoloom("volumes", run, "--movie", movie, "-o", tmp_path / "movie")
    assert np.allclose(pd.read_csv(tmp_path / "movie" / "z.csv").to_numpy(), z[rows].numpy(), atol=1e-5)
    assert len(maps_in(tmp_path / "movie")) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one way"),
        (("--along", "pc1", "--particles", 3), "one way"),
        (("--along", "pc3"), "no pc3"),
        (("--along", "sideways"), "no axis 'sideways'"),
        (("--particles", 400), "no particle 400"),
        (("--movie", "99"), "no movie 99"),
        (("--along", "pc1", "--box", 17), "odd"),
    ],
)
def test_conformations_that_are_not_there(run: Path, tmp_path: Path, arguments, said):
    output = cryoloom("volumes", run, *arguments, "-o", tmp_path / "maps", code=2)
    assert said in output
    assert not (tmp_path / "maps").exists()


def test_z_of_the_wrong_length(run: Path, tmp_path: Path):
    (tmp_path / "z.csv").write_text("0.1,0.2,0.3\n")
    said = cryoloom("volumes", run, "--at", tmp_path / "z.csv", "-o", tmp_path / "maps", code=2)
    assert "3 numbers a line" in said
    assert f"z-dim {Z_DIM}" in said


def test_a_run_without_conformations(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("particles: particles.star\nsystem: loom\n")
    for arguments in (("volumes", tmp_path, "--along", "pc1", "-o", tmp_path / "maps"), ("analyze", tmp_path)):
        assert "has no latents.npz" in cryoloom(*arguments, code=2)
    np.savez(tmp_path / "latents.npz", z_mean=np.zeros((3, 2)), z_log_var=np.zeros((3, 2)))
    assert "does not exist" in cryoloom("analyze", tmp_path, code=2)
    with pytest.raises(InputError, match="run of loom"):
        trained_field(tmp_path)


def spoilt(run: Path, folder: Path, z: np.ndarray) -> Path:
    """A copy of a run with other latents."""
    shutil.copytree(run, folder)
    np.savez(folder / "latents.npz", z_mean=z, z_log_var=z, particle=np.arange(len(z)))
    return folder


def test_latents_of_other_particles(run: Path, tmp_path: Path):
    z = read_latents(run).mean.numpy()
    fewer, wider = spoilt(run, tmp_path / "fewer", z[:-1]), spoilt(run, tmp_path / "wider", np.pad(z, ((0, 0), (0, 1))))
    for arguments in (("analyze",), ("volumes", "--along", "pc1", "-o", tmp_path / "o")):
        assert "some are gone" in cryoloom(arguments[0], fewer, *arguments[1:], code=2)
        assert "z-dim is 2" in cryoloom(arguments[0], wider, *arguments[1:], code=2)
    assert "some are gone" in cryoloom("export", fewer, "--to", "cryodrgn", "-o", tmp_path / "o", code=2)


def test_particles_that_changed_since(run: Path, hinge: Path, tmp_path: Path):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    shorter = tmp_path / "particles.star"
    copy_rows(hinge / "particles.star", shorter, np.arange(300))
    config = (run / "config.yaml").read_text().replace(str(hinge / "particles.star"), str(shorter), 1)
    (moved / "config.yaml").write_text(config)
    (tmp_path / "particles.mrcs").symlink_to(hinge / "particles.mrcs")
    said = cryoloom("select", moved, "--where", "latent_1 > -9", "-o", tmp_path / "all.star", code=2)
    assert "no longer the file" in said
    shorter.unlink()
    said = cryoloom("select", moved, "--where", "latent_1 > -9", "-o", tmp_path / "all.star", code=2)
    assert "does not exist" in said


def test_export_to_cryodrgn_holds_the_latents(run: Path, tmp_path: Path):
    said = cryoloom("export", run, "--to", "cryodrgn", "-o", tmp_path)
    assert "z.pkl" in said
    with (tmp_path / "z.pkl").open("rb") as stream:
        mean, log_var = pickle.load(stream), pickle.load(stream)
    latents = read_latents(run)
    assert mean.dtype == np.float32
    assert np.array_equal(mean, latents.mean.numpy())
    assert np.array_equal(log_var, latents.log_var.numpy())
    assert {"pose.pkl", "ctf.pkl", "particles.star", "volume.mrc"} <= {path.name for path in tmp_path.iterdir()}


@pytest.fixture(scope="module")
def analysed(run: Path) -> Path:
    """The same run after `analyze`."""
    cryoloom("analyze", run, "--clusters", 3)
    return run


def test_analysis_leaves_tables_maps_and_a_report(analysed: Path):
    table = pd.read_parquet(analysed / "analysis" / "particles.parquet")
    assert {"particle", "pc1", "pc2", "cluster", "component", "density"} <= set(table.columns)
    assert len(table) == 400
    assert sorted(table["cluster"].unique()) == [1, 2, 3]
    clusters = pd.read_parquet(analysed / "analysis" / "clusters.parquet")
    assert clusters["particles"].sum() == 400
    z = read_latents(analysed).mean.numpy()
    assert np.allclose(clusters[["z1", "z2"]], z[clusters["particle"]])
    field = trained_field(analysed)
    for i, row in clusters.iterrows():
        made = read_volume(analysed / "volumes" / "conformations" / f"cluster_{i + 1:02d}.mrc")[0]
        assert torch.allclose(made, field.volume(torch.from_numpy(z[int(row["particle"])])), atol=1e-4)
    report = (analysed / "report.html").read_text()
    assert 'id="conformations"' in report


def test_the_variability_is_that_of_the_particles_maps(analysed: Path):
    """A few maps that stand for all vary where those of particles drawn at random do, and as much."""
    field, z = trained_field(analysed), read_latents(analysed).mean
    drawn = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[:60]
    expected = torch.stack([field.volume(z[row]) for row in drawn]).std(0)
    found = read_volume(analysed / "analysis" / "variability.mrc")[0]
    assert correlation(found, expected) > 0.9
    assert 0.7 < float(found.norm() / expected.norm()) < 1.3


def relion_star(hinge: Path, folder: Path) -> Path:
    """The particles as RELION might have written them: comments, tabs, columns and digits that we never use."""
    lines = ["", "# version 30001", "", "data_optics", "", "loop_", "_rlnOpticsGroup #1", "_rlnOpticsGroupName #2"]
    lines += ["_rlnVoltage #3", "_rlnSphericalAberration #4", "_rlnAmplitudeContrast #5", "_rlnImagePixelSize #6"]
    lines += ["_rlnImageSize #7", "_rlnMtfFileName #8"]
    lines += [f"1 opticsGroup1 300.000000 2.700000 0.100000 {PIXEL_SIZE:.6f} 24 mtf_k3.star", "", ""]
    lines += ["# version 30001", "", "data_particles", "", "loop_"]
    labels = ("ImageName", "MicrographName", "CoordinateX", "DefocusU", "DefocusV", "DefocusAngle", "OpticsGroup")
    labels += ("GroupNumber", "LogLikeliContribution", "ClassNumber", "AutopickFigureOfMerit")
    lines += [f"_rln{label} #{i + 1}" for i, label in enumerate(labels)]
    stack, defocus = hinge / "particles.mrcs", read_particles(hinge / "particles.star").column("defocus_u")
    for i, value in enumerate(defocus):
        row = (f"{i + 1:06d}@{stack}", f"MotionCorr/mic{i % 7}.mrc", f"{i * 3.25:.6f}", f"{value:.6f}", f"{value:.6f}")
        lines.append("\t".join([*row, "0.000000", "1", f"{i % 7 + 1}", f"{-1e5 - i / 3:.6e}", "1", f"{i / 7:.8f}"]))
    path = folder / "run_data.star"
    path.write_text("\n".join([*lines, ""]))
    return path


def test_from_relion_through_a_run_back_to_relion(hinge: Path, tmp_path: Path):
    star, run = relion_star(hinge, tmp_path), tmp_path / "run"
    small = ("--network.width", 16, "--network.blocks", 1, "--train.passes", 1, "--device", "cpu", "--limit", 300)
    known = ("--poses", hinge / "truth" / "particles.star", "--z-dim", Z_DIM)
    cryoloom("reconstruct", star, "--system", "cryodrgn", *known, *small, "-o", run)
    table = read_particles(run / "particles.star").table
    middle = float(table["latent_1"].median())
    condition = f"latent_1 > {middle!r} and rlnDefocusU < 15000"
    cryoloom("select", run, "--where", condition, "-o", tmp_path / "selected.star")
    kept = np.flatnonzero((table["latent_1"] > middle) & (table["defocus_u"] < 15000))
    assert 0 < len(kept) < 300
    before, after = star.read_text().splitlines(), (tmp_path / "selected.star").read_text().splitlines()
    first = next(i for i, line in enumerate(before) if line.startswith("000001@"))
    assert after[:first] == before[:first]
    assert len(after) == first + len(kept)
    for row, line in zip(kept, after[first:], strict=True):
        assert line.split("\t") == before[first + row].split("\t")


def test_a_selection_by_cluster_and_by_file(analysed: Path, hinge: Path, tmp_path: Path):
    labels = pd.read_parquet(analysed / "analysis" / "particles.parquet")["cluster"].to_numpy()
    said = cryoloom("select", analysed, "--cluster", 2, "-o", tmp_path / "two.star")
    assert f"{(labels == 2).sum()} of 400" in said
    source = read_particles(hinge / "particles.star")
    chosen = read_particles(tmp_path / "two.star", datadir=hinge)
    assert chosen.column("image_index").tolist() == source.column("image_index")[labels == 2].tolist()
    np.save(tmp_path / "rows.npy", np.array([7, 3, 7]))
    cryoloom("select", analysed, "--ind", tmp_path / "rows.npy", "--with-poses", "-o", tmp_path / "own.star")
    own = read_particles(tmp_path / "own.star")
    assert own.column("image_index").tolist() == source.column("image_index")[[3, 7]].tolist()
    assert own.has_poses
    assert own.has_images
    assert np.allclose(own.column("latent_1"), read_latents(analysed).mean[[3, 7], 0], atol=1e-5)
    cryoloom("select", analysed, "--ind", tmp_path / "rows.npy", "-o", tmp_path / "own.cs")
    assert len(read_particles(tmp_path / "own.cs", datadir=hinge)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one way"),
        (("--cluster", 9), "no cluster 9"),
        (("--where", "pc1 > 1e9"), "leaves none of the 400"),
        (("--where", "claster == 1"), "did you mean cluster?"),
        (("--where", "__import__('os').system('true') == 0"), "cannot use"),
        (("--where", "pc1.values > 0"), "cannot use"),
        (("--where", "@pc1 > 3"), "no condition"),
        (("--where", "pc1 < 9 ** 9 ** 9 ** 9"), "cannot use"),
        (("--where", "pc1 + 1"), "no condition"),
        (("--where", "pc1"), "compares nothing"),
        (("--where", "pc1 > 'wide'"), "cannot be answered"),
    ],
)
def test_selections_that_are_none(analysed: Path, tmp_path: Path, arguments, said):
    output = cryoloom("select", analysed, *arguments, "-o", tmp_path / "selected.star", code=2)
    assert said in output
    assert "Traceback" not in output
    assert not (tmp_path / "selected.star").exists()
