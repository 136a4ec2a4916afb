"""Spectra are read once, kept as far as memory allows, and the same whether kept or not."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.data.particles import Particles
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve import images as module
from cryoloom.solve.images import WorkingImages

N = 40


@pytest.fixture
def particles(tmp_path: Path) -> Particles:
    conformations = conformations_of(Source((Path("phantom"),)), 16, 7.2)
    simulate_particles(conformations, Simulation(box=16, pixel_size=7.2, particles=N, snr=1.0, seed=0), tmp_path)
    return read_particles(tmp_path / "particles.star")


@pytest.fixture
def read(particles, monkeypatch) -> list[int]:
    """The particles that were read off files, in their order."""
    rows: list[int] = []
    from_files = Particles.clean_images

    def counted(self, index=None):
        rows.extend(self.rows(index).tolist())
        return from_files(self, index)

    monkeypatch.setattr(Particles, "clean_images", counted)
    return rows


@pytest.mark.parametrize("kept", [0, 5, N])
def test_spectra_are_the_same_however_many_are_kept(particles, read, monkeypatch, kept):
    everything = WorkingImages(particles)._read(torch.arange(N))
    monkeypatch.setattr(module, "KEPT_BYTES", kept * 8 * everything.shape[1])
    images = WorkingImages(particles)
    read.clear()
    for index in (torch.tensor([3, 1, 7]), torch.arange(N).flip(0), torch.tensor([1, 11, 0])):
        assert torch.equal(images.spectrum(index), everything[index])
    # What is kept first is kept for good; here 3, 1, 7 and then the last two.
    assert len(read) == {0: 3 + N + 3, 5: N + 2, N: N}[kept]


def test_a_spectrum_does_not_depend_on_what_it_was_read_with(particles):
    together = WorkingImages(particles)._read(torch.arange(N))
    assert WorkingImages(particles)._scale.trust > 0
    for n in range(1, N):
        index = torch.randperm(N, generator=torch.Generator().manual_seed(n))[:n]
        assert torch.equal(WorkingImages(particles).spectrum(index), together[index]), n


def test_what_a_caller_does_to_a_spectrum_stays_with_him(particles):
    images, index = WorkingImages(particles), torch.arange(4)
    first = images.spectrum(index).clone()
    for _ in range(2):
        images.spectrum(index)[:, 0] = 99
    assert torch.equal(images.spectrum(index), first)


def test_coarse_images_are_shortened_ones_and_read_nothing_again(particles, read):
    images = WorkingImages(particles)
    whole = images.spectrum(torch.arange(N))
    read.clear()
    coarse = images.coarse(4.0)
    assert torch.equal(coarse.spectrum(torch.arange(N)), whole[:, : len(coarse.lattice)])
    assert read == []
