"""The command as it is typed."""

import json
from pathlib import Path

import cyclopts
import pytest

from cryoloom.cli.simulate import simulate
from cryoloom.data import read_particles
from cryoloom.errors import InputError


def run(line: str, output: Path) -> None:
    app = cyclopts.App(result_action="return_value")
    app.default(simulate)
    app([*line.split(), "-o", str(output)])


def test_every_option_reaches_the_truth(tmp_path, capsys):
    line = "phantom --states 3 --weights 1 0 3 --box 32 --pixel-size 3.4 --particles 40 --snr inf --defocus 0.4 1.2"
    run(f"{line} --shift 2 --noise coloured --seed 3 --no-ctf", tmp_path)
    facts = json.loads((tmp_path / "truth" / "truth.json").read_text())
    settings = facts["settings"]
    assert facts["snr"] == "inf"
    assert facts["noise_variance"] == 0
    assert (settings["box"], settings["pixel_size"], settings["particles"]) == (32, 3.4, 40)
    assert (settings["defocus"], settings["ctf"], settings["seed"]) == ([0.4, 1.2], False, 3)
    assert facts["source"]["states"] == 3
    truth = read_particles(tmp_path / "truth" / "particles.star")
    assert set(truth.table["conformation"]) == {0, 2}
    assert not truth.has_ctf
    printed = capsys.readouterr().out.replace("\n", "")
    assert "particles.star" in printed
    assert "truth.json" in printed


def test_adenylate_kinase_as_in_the_papers(shared, tmp_path):
    structure = shared / "structures" / "4ake.pdb"
    run(f"{structure} --chain A --particles 20 --snr 0.1 --defocus 0.4 1.2 --shift 3", tmp_path)
    particles = read_particles(tmp_path / "particles.star", require_images=True)
    assert (len(particles), particles.box, particles.pixel_size) == (20, 64, 1.6)
    defocus = particles.table["defocus_u"]
    assert defocus.between(4000, 12000).all()
    shift = read_particles(tmp_path / "truth" / "particles.star").poses().best_shift
    assert float(shift.abs().max()) <= 3 * 1.6


def test_measured_noise_spectrum(shared, tmp_path):
    spectrum = shared / "metadata" / "noise_spectrum_empiar10076.pkl"
    run(f"phantom --box 32 --pixel-size 3.4 --particles 20 --noise coloured --noise-spectrum {spectrum}", tmp_path)
    facts = json.loads((tmp_path / "truth" / "truth.json").read_text())
    assert len(facts["noise_spectrum"]) == 16


def test_nothing_to_simulate_is_said_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no STRUCTURE"):
        run("--box 32", tmp_path)
    assert not list(tmp_path.iterdir())
