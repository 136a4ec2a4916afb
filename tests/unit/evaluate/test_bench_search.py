"""Benchmarks of pose search: operations counted, errors of each level, fits to images, and what peers say."""

import math

import numpy as np
import pytest
import torch

from cryoloom.evaluate.bench.catalogue import tables
from cryoloom.evaluate.bench.cryodrgn2 import high_over_low, particle_errors, shell_power
from cryoloom.evaluate.bench.curves import power_picture, share_below
from cryoloom.evaluate.bench.measure import Workbench
from cryoloom.evaluate.bench.peers import VS_CRYODRGN, Peer, epoch_seconds
from cryoloom.evaluate.bench.pose_search import (
    BaseCost,
    Problem,
    fit_to_images,
    matmul_rate,
    plain_scores,
    problem_of,
    rotations_by_level,
    search_of,
    squared_error,
    whole_search,
)
from cryoloom.evaluate.bench.tables import Notebook, Order, measure_table
from cryoloom.model.poses.search import SearchSettings
from cryoloom.physics.project import FourierSlice
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation

BOX, PIXEL, SNR = 32, 4.0, 1.0
SETTINGS = SearchSettings(angle_step=30, shift_points=4, candidates=8, subdivisions=2, first_band=6, last_band=12)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    settings = Simulation(box=BOX, pixel_size=PIXEL, particles=60, snr=SNR, shift=2.0)
    simulate_particles([phantom(BOX, PIXEL)], settings, folder)
    return folder


@pytest.fixture(scope="module")
def problem(simulated) -> Problem:
    return problem_of(simulated / "particles.star", simulated / "truth", torch.device("cpu"))


def test_scale_and_noise_are_those_of_the_images(problem):
    """Background has a standard deviation of 1 by normalisation: D² a coefficient where the noise is white."""
    assert problem.noise[4:].mean() == pytest.approx(BOX**2, rel=0.15)
    again, noise = fit_to_images(problem.images, 7 * problem.volume, problem.rotation, problem.shift)
    assert torch.allclose(again, problem.volume, rtol=1e-3, atol=1e-6)
    assert torch.allclose(noise, problem.noise, rtol=1e-3)
    turned = problem.rotation.roll(1, 0)
    wrong, left = fit_to_images(problem.images, problem.volume, turned, problem.shift)
    assert wrong.abs().max() < 0.8 * problem.volume.abs().max()
    assert left[2:8].mean() > problem.noise[2:8].mean()


def test_errors_fall_level_by_level_to_that_of_the_search_itself(problem):
    search = search_of(problem, SETTINGS, 4.0)
    evidence = problem.images.evidence(problem.index, problem.noise, search.bands[-1])
    searched = search.against(FourierSlice.of_volume(problem.volume))
    levels = rotations_by_level(searched, evidence)
    medians = [float(squared_error(rotation, problem.rotation).median()) for rotation in levels]
    assert len(levels) == 3
    assert medians[2] < medians[1] < medians[0]
    assert torch.equal(levels[-1], searched.best(evidence).rotation[:, 0])
    whole = squared_error(whole_search(problem, search), problem.rotation)
    assert whole.shape == (60,)
    assert float(whole.median()) < medians[0]


def test_operations_are_those_of_the_products(problem):
    cost = BaseCost(coefficients=10, rotations=100, shifts=9, functions=4)
    assert cost.operations == 2 * 4 * 100 * 20 + 2 * 9 * 4 * 100 + 2 * 100 * 10
    assert cost.plain_operations == 2 * 9 * 100 * 20 + 2 * 100 * 10
    assert cost.values == (4 + 9) * 100
    searched = search_of(problem, SETTINGS, 4.0).against(FourierSlice.of_volume(problem.volume))
    found = BaseCost.of_pass(searched)
    assert (found.rotations, found.shifts) == (576, 16)
    assert found.functions <= found.shifts
    assert found.coefficients == problem.images.lattice.count(6)


def test_the_plain_product_scores_as_the_search_does(problem):
    search = search_of(problem, SETTINGS.model_copy(update={"subdivisions": 0, "last_band": 6}), 4.0)
    evidence = problem.images.evidence(problem.index, problem.noise, 6)
    searched = search.against(FourierSlice.of_volume(problem.volume))
    scores = plain_scores(searched.templates, evidence, searched.bases[0].shifts)
    found = searched.best(evidence)
    # The search adds a log-prior of shifts, at most 1 apart within the grid.
    assert torch.allclose(found.score[:, 0], scores.amax(1), atol=1.5)


def test_a_rate_is_a_positive_number_of_operations_a_second():
    assert matmul_rate(torch.float32, torch.device("cpu"), [(64, 64, 64), (128, 32, 16)], 1) > 0


def test_epochs_are_read_from_what_both_commands_say():
    log = """(INFO) (x.py) Using random poses for 1 iterations
    # [Train Epoch: 1/2] [1000/1000 images] loss=0.6
    (INFO) # =====> Epoch: 1 Average loss = 0.676; Finished in 0:01:35.538877
    (INFO) # =====> HPS Epoch: 12 finished in 1 day, 2:00:03.5; total loss = 0.1
    (INFO) Finished in 0:02:17.241862 (0:01:08.620931 per epoch)"""
    assert epoch_seconds(log) == {1: pytest.approx(95.538877), 12: pytest.approx(26 * 3600 + 3.5)}
    assert epoch_seconds("nothing") == {}


def test_without_the_peer_its_table_says_how_to_get_it(tmp_path):
    sizes = VS_CRYODRGN.scales["quick"].__class__(cryodrgn="no-such-command")
    order = Order(VS_CRYODRGN, "quick", tmp_path, tmp_path, tmp_path, tmp_path, "x", sizes=sizes)
    result = measure_table(order, lambda: "abc", lambda: "abc", lambda _: None)
    assert all("pip install cryodrgn==4.3.1" in part.skipped for part in result.parts)


def test_the_peer_is_run_where_its_command_lies_and_shown_without_its_place(tmp_path):
    script = tmp_path / "elsewhere/cryodrgn"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nmkdir -p train_nn\necho cryoDRGN 9.8.7\necho Epoch: 2 Finished in 0:00:04.0\n")
    script.chmod(0o755)
    (tmp_path / "work").mkdir()
    bench = Workbench(tmp_path / "work", tmp_path, "abc")
    book = Notebook(bench, VS_CRYODRGN.scales["quick"].__class__(cryodrgn=str(script)), tmp_path, lambda _: None)
    peer = Peer(book)
    assert peer.name == "cryodrgn 9.8.7"
    assert peer.epochs("train_nn", "x.mrcs", "-n", 2) == {2: 4.0}
    assert bench.commands == ["cryodrgn train_nn x.mrcs -o train_nn -n 2"]


def test_power_by_shell_tells_what_lies_high():
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(24, 24, 24, generator=generator)
    power = shell_power(white)
    assert power.shape == (12,)
    assert power[3:] == pytest.approx(np.full(9, 24**3), rel=0.2)
    # White power fills shells as their surfaces grow.
    expected = sum(k**2 for k in range(6, 12)) / sum(k**2 for k in range(1, 6))
    assert high_over_low(power) == pytest.approx(expected, rel=0.15)
    assert high_over_low(np.where(np.arange(12) < 6, power, 0)) == 0


def test_errors_of_a_run_are_after_alignment(simulated, tmp_path):
    (tmp_path / "run").mkdir()
    star = (simulated / "truth/particles.star").read_text()
    (tmp_path / "run/particles.star").write_text(star.replace("@particles.mrcs", f"@{simulated}/particles.mrcs"))
    errors = particle_errors(tmp_path / "run", simulated / "truth")
    assert errors.shape == (60,)
    assert errors.max() < 1e-5


def test_pictures_are_drawn(tmp_path):
    random = np.random.default_rng(0)
    share_below(tmp_path / "a.png", {"one": random.random(9), "two": np.zeros(9)}, "error")
    power_picture(tmp_path / "b.png", {"x": random.random((8, 8))}, {"x": random.random(4)}, 2.0)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.png", "b.png"))


def test_every_table_of_the_paper_is_there():
    names = {"cryodrgn2-table1", "cryodrgn2-table2", "cryodrgn2-fig4"}
    assert names <= tables().keys()
    for name in names:
        assert {"mini", "paper", "quick"} <= tables()[name].scales.keys()
    assert not math.isnan(tables()["cryodrgn2-table2"].scales["paper"].spike_pixel)
