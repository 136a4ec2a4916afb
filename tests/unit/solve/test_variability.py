"""Linear components of images at known poses: as many as there are, and what each image has of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cryoloom.data import read_particles
from cryoloom.data.half_sets import half_sets
from cryoloom.data.particles import Particles
from cryoloom.simulate.conformations import Source, conformations_of
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.em.variability import Variability, read
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.team import Team


def particles_of(folder: Path, states: int) -> Particles:
    settings = Simulation(box=24, pixel_size=4.8, particles=600, snr=1.0, shift=1.0, seed=0)
    source = Source((Path("phantom"),), states=states)
    simulate_particles(conformations_of(source, settings.box, settings.pixel_size), settings, folder)
    return read_particles(folder / "truth/particles.star")


def variability_of(particles: Particles) -> Variability:
    images = WorkingImages(particles)
    given = (particles.poses(), half_sets(particles, 0), first_noise(images), 10.0, soft_sphere(24, 10.8), Team())
    return Variability(images, *given)


def latents_of(particles: Particles, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    variability = variability_of(particles)
    volumes = variability.components(count, torch.Generator().manual_seed(1), lambda done, total: None)
    mean, log_var = variability.latents(volumes, count)
    return mean.numpy(), log_var.numpy(), len(volumes[0].components)


def test_a_motion_of_one_coordinate_is_the_first_component(tmp_path):
    particles = particles_of(tmp_path, states=6)
    mean, log_var, found = latents_of(particles, 3)
    assert 1 <= found < 3
    coordinate = particles.column("conformation_coordinate").astype(float)
    assert abs(spearmanr(mean[:, 0], coordinate)[0]) > 0.85
    # z is N(0, 1) over the particles: their spread and what is not known of each make one.
    assert mean[:, 0].var() + np.exp(log_var[:, 0]).mean() == pytest.approx(1, abs=0.2)
    assert (mean[:, found:] == 0).all()
    assert (log_var[:, found:] == 0).all()


def test_images_of_one_volume_have_no_component(tmp_path):
    mean, log_var, found = latents_of(particles_of(tmp_path, states=1), 2)
    assert found == 0
    assert (mean == 0).all()
    assert (log_var == 0).all()


def test_the_posterior_is_that_of_least_squares_with_a_prior():
    g = torch.Generator().manual_seed(2)
    slices = torch.randn(5, 3, 40, dtype=torch.complex64, generator=g)
    ctf = torch.randn(5, 40, generator=g)
    image = torch.randn(5, 40, dtype=torch.complex64, generator=g)
    found = read(slices, ctf * image, ctf**2)
    for i in range(5):
        # Real rows; complex noise of variance 1 has 1/2 in each part. The scale's prior is 1 ± 0.1, that of z 0 ± 1.
        design = torch.view_as_real(ctf[i] * slices[i]).reshape(3, -1).T * 2**0.5
        prior = torch.diag(torch.tensor([10.0, 1.0, 1.0]))
        rows = torch.cat([design, prior]).double()
        right = torch.cat([torch.view_as_real(image[i]).flatten() * 2**0.5, torch.tensor([10.0, 0, 0])]).double()
        expected = torch.linalg.lstsq(rows, right[:, None]).solution[:, 0]
        assert torch.allclose(torch.cat([found.scale[i], found.z[i]]).double(), expected, atol=1e-4)
        assert torch.allclose(found.covariance[i].double(), torch.linalg.inv(rows.T @ rows)[1:, 1:], atol=1e-5)
