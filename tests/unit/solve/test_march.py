"""The search that follows the soft one takes over what it found, within its own limits."""

from pathlib import Path

import pytest
import torch

from cryoloom.data import read_particles
from cryoloom.simulate.particles import simulate_particles
from cryoloom.simulate.phantom import phantom
from cryoloom.simulate.settings import Simulation
from cryoloom.solve.em.abinitio import AbInitio, AbInitioSettings, Bands
from cryoloom.solve.em.march import EMMarchSettings, March
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.team import Team


@pytest.fixture
def images(tmp_path: Path) -> WorkingImages:
    settings = Simulation(box=32, pixel_size=3.6, particles=40, snr=1.0, shift=1.0, seed=0)
    simulate_particles([phantom(32, 3.6)], settings, tmp_path)
    return WorkingImages(read_particles(tmp_path / "particles.star"))


@pytest.mark.parametrize(("last_resolution", "goes_down"), [(20.0, True), (8.0, False)])
def test_a_march_begins_within_its_last_band(images: WorkingImages, last_resolution: float, goes_down: bool):
    """The soft search of a symmetric molecule ends at 10 elements across, a short march at 8: no slice lies beyond."""
    scope = Scope.of(ScopeSettings(mask_diameter_angst=100.0), images, "D2")
    rows, generator = torch.arange(len(images)), torch.Generator().manual_seed(0)
    soft = AbInitio(images, rows, AbInitioSettings(), scope, Bands(4.0, 9.0, 15.0), Team())
    found = soft.start(generator)
    found = type(found)(**{**found.__dict__, "band": 9.0})
    settings = EMMarchSettings(last_resolution=last_resolution, batch_size=20)
    march = March(images, rows, settings, scope, March.bands(settings, scope, images, True), Team())
    state = march.go_on(found)
    assert state.band == pytest.approx(min(9.0, 32 * 3.6 / last_resolution))
    assert (state.band < 9.0) == goes_down
    assert torch.equal(state.noise[: int(state.band) + 1], found.noise[: int(state.band) + 1])
    after = march.step(state, generator)
    assert after.band <= march.bands.last + 1e-6
    assert torch.isfinite(after.volume).all()
    assert 0 < after.peaks[-1] <= 1
