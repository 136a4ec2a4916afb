"""What `simulate` writes: the conventions of the truth, the noise, and that one seed gives one data set."""

import json

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles, read_volume, write_star
from cryoloom.data.star import read_blocks
from cryoloom.errors import InputError
from cryoloom.physics.formation import form_images
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.noise import radial_power
from cryoloom.physics.project import FourierSlice
from cryoloom.simulate.noise import falling_spectrum, noise_spectrum, pixel_variance
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation


def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.flatten(1), b.flatten(1)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def test_truth_projects_to_the_clean_images(clean):
    truth = read_particles(clean / "truth" / "particles.star")
    lattice = FrequencyLattice.of_box(truth.box)
    conformation = torch.from_numpy(truth.table["conformation"].to_numpy().copy())
    for i in range(2):
        volume, pixel_size = read_volume(clean / "truth" / "conformations" / f"{i:03d}.mrc")
        rows = torch.nonzero(conformation == i)[:, 0]
        assert len(rows) > 100
        projector = FourierSlice.of_volume(volume, pad=2)
        predicted = lattice.images(form_images(projector, truth.poses(rows), truth.ctf(rows), lattice, pixel_size))
        images = truth.images(rows)
        assert correlation(predicted, images).min() > 0.999
        assert torch.allclose(predicted.norm(), images.norm(), rtol=0.01)


def test_shift_moves_the_molecule_and_origin_is_its_negative(make):
    output = make(snr=float("inf"), ctf=False)
    truth = read_particles(output / "truth" / "particles.star")
    rows = read_blocks(output / "truth" / "particles.star")["particles"]
    x = torch.arange(truth.box) - truth.box // 2
    images = truth.images()
    mass = images.sum((1, 2))
    centre = torch.stack([(images.sum(1) * x).sum(1) / mass, (images.sum(2) * x).sum(1) / mass], -1) * truth.pixel_size
    volume_offset = 5.0
    origin = torch.from_numpy(rows[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy())
    assert torch.allclose(truth.poses().best_shift, -origin.float(), atol=1e-3)
    slope = np.polyfit(-origin.flatten().numpy(), centre.flatten().numpy(), 1)[0]
    assert slope == pytest.approx(1, abs=0.05)
    assert (centre + origin).norm(dim=1).max() < volume_offset


def test_poses_and_conformations_are_in_the_truth_only(clean):
    public = read_blocks(clean / "particles.star")["particles"]
    hidden = read_blocks(clean / "truth" / "particles.star")["particles"]
    assert not [name for name in public if "Angle" in name and name != "rlnDefocusAngle"]
    assert not [name for name in public if "Origin" in name or "conformation" in name]
    assert {"rlnAngleRot", "rlnOriginXAngst", "conformation", "conformation_coordinate"} <= set(hidden)
    assert read_particles(clean / "particles.star", require_images=True).has_ctf


def test_snr_is_the_one_asked_for(clean, noisy):
    signal, data = (read_particles(output / "particles.star").images() for output in (clean, noisy))
    noise = data - signal
    assert float(signal.var() / noise.var()) == pytest.approx(0.1, rel=0.01)
    facts = json.loads((noisy / "truth" / "truth.json").read_text())
    assert facts["noise_variance"] == pytest.approx(float(noise.var()), rel=0.01)
    assert facts["signal_variance"] == pytest.approx(float(signal.var()), rel=1e-3)
    assert "all pixels" in facts["snr_definition"]
    assert facts["settings"]["seed"] == 7


def test_coloured_noise_has_its_spectrum_at_the_stated_snr(clean, make):
    output = make(snr=0.2, noise="coloured")
    signal, data = (read_particles(path / "particles.star").images() for path in (clean, output))
    noise = data - signal
    assert float(signal.var() / noise.var()) == pytest.approx(0.2, rel=0.03)
    measured = radial_power(noise) / noise.var()
    expected = noise_spectrum(Simulation(box=32, pixel_size=3.4, noise="coloured"))
    assert torch.allclose(measured[2:], expected[2:], rtol=0.1)
    assert measured[1] > 2 * measured[-1]


def test_normalised_spectrum_has_unit_pixel_variance():
    spectrum = falling_spectrum(32, 1.6)
    scaled = spectrum / pixel_variance(spectrum, 64)
    assert pixel_variance(scaled, 64) == pytest.approx(1)


def test_measured_spectrum_is_stretched_to_the_box(tmp_path):
    path = tmp_path / "spectrum.txt"
    np.savetxt(path, np.linspace(4, 1, 100))
    spectrum = noise_spectrum(Simulation(box=32, noise="coloured", noise_spectrum=path))
    assert spectrum.shape == (16,)
    assert float(spectrum[0] / spectrum[-1]) == pytest.approx(4, rel=1e-5)
    path.write_text("not a number\n")
    with pytest.raises(InputError, match="no noise spectrum"):
        noise_spectrum(Simulation(box=32, noise="coloured", noise_spectrum=path))


def test_one_seed_one_data_set(noisy, make):
    again, other = make(snr=0.1), make(snr=0.1, seed=8)
    assert (noisy / "particles.mrcs").read_bytes() == (again / "particles.mrcs").read_bytes()
    assert (noisy / "truth" / "truth.json").read_bytes() == (again / "truth" / "truth.json").read_bytes()
    for name in ("particles.star", "truth/particles.star"):
        # The first line is the library's, with the time of day.
        assert (noisy / name).read_text().split("\n")[1:] == (again / name).read_text().split("\n")[1:]
    assert torch.equal(*(read_volume(path / "truth" / "conformations" / "001.mrc")[0] for path in (noisy, again)))
    assert (noisy / "particles.mrcs").read_bytes() != (other / "particles.mrcs").read_bytes()


def test_noise_and_shift_leave_orientations_as_they_were(clean, make):
    truth = [read_particles(p / "truth" / "particles.star").poses() for p in (clean, make(snr=1.0, shift=0.0))]
    assert torch.equal(truth[0].best_rotation, truth[1].best_rotation)
    assert torch.all(truth[1].best_shift == 0)


def test_orientations_and_ctf_are_drawn_from_measured_ones(clean, make):
    measured = read_particles(clean / "truth" / "particles.star").subset(slice(0, 4))
    source = clean / "four.star"
    write_star(source, measured)
    drawn = read_particles(make(orientations=source, ctf_from=source) / "truth" / "particles.star")
    allowed = measured.table["defocus_u"].to_numpy()
    assert set(drawn.table["defocus_u"]) == set(allowed)
    turned, given = (each.poses().best_rotation.double().flatten(1) for each in (drawn, measured))
    distance = torch.cdist(turned, given)
    assert distance.min(1).values.max() < 1e-4


def test_movies_have_frames_in_order_and_conformations_that_move(make):
    output = make(movies=6, frames=5, snr=1.0)
    public = read_particles(output / "particles.star")
    assert len(public) == 30
    assert [len(rows) for rows in public.movies().values()] == [5] * 6
    assert public.table["micrograph_name"].iloc[0] == "movie_1"
    truth = read_particles(output / "truth" / "particles.star")
    rows = next(iter(truth.movies().values()))
    assert truth.table["conformation"].to_numpy()[rows].tolist() == [0, 0, 0, 1, 1]


def test_junk_is_noise_that_the_truth_tells(clean, make):
    output = make(snr=float("inf"), junk=0.2)
    which = read_particles(output / "truth" / "particles.star").column("conformation").astype(int)
    assert 0.1 < (which < 0).mean() < 0.3
    power = read_particles(output / "particles.star").images().flatten(1).var(1).numpy()
    assert (power[which < 0] == 0).all()
    before = read_particles(clean / "truth" / "particles.star").column("conformation").astype(int)
    assert (which[which >= 0] == before[which >= 0]).all()


def test_a_single_volume_is_called_volume(tmp_path):
    volume = torch.zeros(16, 16, 16)
    volume[8, 8, 9] = 1
    settings = Simulation(box=16, particles=3, shift=0, snr=1.0, ctf=False)
    paths = simulate_particles([volume], settings, tmp_path / "set")
    assert all(path.is_file() for path in paths)
    assert (tmp_path / "set" / "truth" / "volume.mrc").is_file()


def test_dose_takes_detail_from_later_frames_and_is_stated(tmp_path):
    volume = torch.zeros(32, 32, 32)
    volume[16, 16, 16] = 1
    movies: dict = {"box": 32, "movies": 4, "frames": 5, "snr": float("inf"), "shift": 0.0}
    for dose in (0.0, 3.0):
        simulate_particles([volume], Simulation(dose=dose, **movies), tmp_path / f"{dose:g}")
    still, faded = (read_particles(tmp_path / name / "particles.star") for name in ("0", "3"))
    b_factor = faded.ctf().b_factor.reshape(4, 5)
    assert torch.equal(b_factor, 12.0 * torch.arange(5.0).expand(4, 5))
    assert torch.equal(still.ctf().b_factor, torch.zeros(20))
    # A point's spectrum is the CTF: what is left of it at a frequency g is exp(−B g²/4).
    spectra = [torch.fft.fft2(p.images()).abs()[:, 0, 8] for p in (still, faded)]
    left = (spectra[1] / spectra[0]).reshape(4, 5)
    expected = torch.exp(-b_factor * (8 / (32 * 1.6)) ** 2 / 4)
    assert torch.allclose(left, expected, rtol=0.02)


def test_b_factor_fades_every_image_and_adds_to_the_dose(tmp_path):
    volume = torch.zeros(32, 32, 32)
    volume[16, 16, 16] = 1
    settings: dict = {"box": 32, "snr": float("inf"), "shift": 0.0}
    single = {"particles": 3, **settings}
    for name, faded in (("sharp", 0.0), ("faded", 200.0)):
        simulate_particles([volume], Simulation(b_factor=faded, **single), tmp_path / name)
    sharp, faded = (read_particles(tmp_path / name / "particles.star") for name in ("sharp", "faded"))
    assert torch.equal(faded.ctf().b_factor, torch.full((3,), 200.0))
    left = torch.fft.fft2(faded.images()).abs()[:, 0, 8] / torch.fft.fft2(sharp.images()).abs()[:, 0, 8]
    assert torch.allclose(left, torch.exp(torch.tensor(-200 * (8 / (32 * 1.6)) ** 2 / 4)), rtol=0.02)
    movie = Simulation(b_factor=50.0, dose=1.0, movies=2, frames=3, **settings)
    simulate_particles([volume], movie, tmp_path / "movie")
    both = read_particles(tmp_path / "movie" / "particles.star").ctf().b_factor
    assert torch.equal(both, torch.tensor([50.0, 54.0, 58.0] * 2))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"box": 33}, "box is 33"),
        ({"b_factor": -1.0}, "B-factor is -1"),
        ({"b_factor": 9.0, "ctf": False}, "leave out --no-ctf"),
        ({"snr": 0.0}, "snr is 0"),
        ({"snr": float("nan")}, "snr is nan"),
        ({"pixel_size": -1.0}, "pixel size"),
        ({"defocus": (2.0, 1.0)}, "MIN MAX"),
        ({"movies": 3}, "give both"),
        ({"junk": 1.0}, "junk is 1"),
        ({"junk": 0.1, "movies": 3, "frames": 2}, "leave out --movies"),
        ({"tumbling": 3.0}, "needs movies"),
        ({"drift": 1.0}, "needs movies"),
        ({"drift": -1.0, "movies": 3, "frames": 2}, "drift is -1"),
        ({"drift": 9.0, "movies": 3, "frames": 6}, "out of the box"),
        ({"dose": -1.0, "movies": 3, "frames": 2}, "dose is -1"),
        ({"dose": 1.0}, "give --movies"),
        ({"dose": 1.0, "movies": 3, "frames": 2, "ctf": False}, "leave out --no-ctf"),
    ],
)
def test_impossible_settings_are_refused_in_a_sentence(wrong, words):
    with pytest.raises(InputError, match=words):
        Simulation(**wrong)


def test_bad_input_leaves_an_old_data_set_alone(tmp_path):
    settings = Simulation(box=16, particles=3, shift=0, snr=1.0, ctf=False)
    volume = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0))
    simulate_particles([volume], settings, tmp_path / "set")
    left = sorted(path.relative_to(tmp_path / "set") for path in (tmp_path / "set").rglob("*"))
    with pytest.raises(InputError, match="voxels"):
        simulate_particles([volume, volume[:8]], settings, tmp_path / "set")
    assert sorted(path.relative_to(tmp_path / "set") for path in (tmp_path / "set").rglob("*")) == left
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
