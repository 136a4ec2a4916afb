"""The CTF against torch-ctf, which has the opposite sign and takes micrometres."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_ctf import calculate_ctf_2d

from cryoloom.physics.ctf import CTFParameters, ctf, electron_wavelength
from cryoloom.physics.formation import lattice_ctf
from cryoloom.physics.fourier import FrequencyLattice

MICROSCOPE = {
    "u": st.floats(3_000, 40_000),
    "astigmatism": st.floats(0, 2_000),
    "angle": st.floats(-90, 180),
    "kv": st.sampled_from([80.0, 120.0, 200.0, 300.0]),
    "cs": st.floats(0, 2.7),
    "w": st.floats(0, 0.3),
    "phase": st.floats(0, 120),
}


def parameters(u=15_000.0, astigmatism=0.0, angle=0.0, kv=300.0, cs=2.7, w=0.1, phase=0.0, b=0.0) -> CTFParameters:
    values = (u, u - astigmatism, angle, kv, cs, w, phase, b)
    return CTFParameters(*(torch.tensor([v], dtype=torch.float64) for v in values))


def on_lattice(p: CTFParameters, box: int = 32, pixel_size: float = 1.5) -> torch.Tensor:
    return lattice_ctf(p, 1, FrequencyLattice.of_box(box), pixel_size)[0]


def test_wavelength_is_that_of_the_tables():
    # Reimer & Kohl, Transmission Electron Microscopy, table of relativistic wavelengths, in Å.
    kv = torch.tensor([100.0, 200.0, 300.0], dtype=torch.float64)
    assert torch.allclose(electron_wavelength(kv), torch.tensor([0.03701, 0.02508, 0.01969]).double(), atol=5e-6)


@given(**MICROSCOPE)
def test_value_at_zero_is_minus_the_amplitude_contrast(**microscope):
    value = float(on_lattice(parameters(**{**microscope, "phase": 0.0}))[0])
    assert value == pytest.approx(-microscope["w"], abs=1e-6)


def test_golden_value_written_out():
    g, wavelength = 0.1, 12.2642598 / math.sqrt(300e3 * (1 + 0.978466e-6 * 300e3))
    chi = math.pi * wavelength * 15_000 * g**2 - math.pi / 2 * 2.7e7 * wavelength**3 * g**4
    expected = -math.sqrt(1 - 0.1**2) * math.sin(chi) - 0.1 * math.cos(chi)
    value = ctf(parameters(), torch.tensor([[g, 0.0]]))
    assert float(value) == pytest.approx(expected, abs=1e-6)


def test_agrees_with_torch_ctf(generator):
    n, box, pixel_size = 40, 32, 1.5

    def draw(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    u, astigmatism, angle = draw(3_000, 40_000), draw(0, 2_000), draw(-90, 180)
    kv, cs, w, phase = draw(80, 300), draw(0, 2.7), draw(0, 0.3), draw(0, 120)
    theirs = calculate_ctf_2d(
        defocus=(u - astigmatism / 2) * 1e-4,
        astigmatism=astigmatism / 2 * 1e-4,
        astigmatism_angle=angle,
        voltage=kv,
        spherical_aberration=cs,
        amplitude_contrast=w,
        phase_shift=phase,
        pixel_size=pixel_size,
        image_shape=(box, box),
        rfft=True,
        fftshift=False,
    )
    lattice = FrequencyLattice.of_box(box)
    p = CTFParameters(u, u - astigmatism, angle, kv, cs, w, phase, torch.zeros(n))
    ours = lattice_ctf(p, n, lattice, pixel_size)
    # Single precision on their side: phases reach tens of radians.
    assert (ours + theirs.flatten(1)[:, lattice.rfft_index]).abs().max() < 2e-3


def test_defocus_u_lies_along_its_angle():
    p = parameters(u=20_000.0, astigmatism=4_000.0, angle=30.0, cs=0.0)
    g = 0.05 * torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (30, 120)])
    along = ctf(parameters(u=20_000.0, cs=0.0), g[:1])
    across = ctf(parameters(u=16_000.0, cs=0.0), g[:1])
    assert torch.allclose(ctf(p, g)[0], torch.cat([along[0], across[0]]), atol=1e-6)


@given(**MICROSCOPE)
def test_stays_between_minus_one_and_one_and_is_even(**microscope):
    p = parameters(**microscope)
    g = FrequencyLattice.of_box(32).k / 48
    assert ctf(p, g).abs().max() <= 1
    assert torch.equal(ctf(p, g), ctf(p, -g))


@given(b=st.floats(0, 200), **MICROSCOPE)
def test_b_factor_is_an_envelope(b, **microscope):
    g = FrequencyLattice.of_box(32).k / 48
    envelope = torch.exp(-b / 4 * (g**2).sum(-1))
    assert torch.allclose(ctf(parameters(**microscope, b=b), g), ctf(parameters(**microscope), g) * envelope, atol=1e-6)


def test_no_parameters_mean_no_ctf():
    lattice = FrequencyLattice.of_box(16)
    assert torch.equal(lattice_ctf(None, 3, lattice, 1.0), torch.ones(3, len(lattice)))


def test_select_takes_particles():
    p = CTFParameters(*(torch.arange(5.0) + i for i in range(8)))
    assert [float(v) for v in p.select(torch.tensor([3]))] == [3.0 + i for i in range(8)]
