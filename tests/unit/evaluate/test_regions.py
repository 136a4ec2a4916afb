"""Flexible regions: one for the truth itself, none for a map that points elsewhere."""

import pytest
import torch

from cryoloom.data.mrc import write_volume
from cryoloom.errors import InputError
from cryoloom.evaluate.regions import agreement, agreements_of, true_variability
from cryoloom.physics.fourier import radii3

BOX = 16


def ball(x: int) -> torch.Tensor:
    """A ball of radius 3 at (x, 0, 0) from the centre."""
    return (radii3(BOX).roll(x, 2) <= 3).float()


@pytest.fixture
def conformations() -> torch.Tensor:
    """A ball that stays, and one that is there or not, as bright."""
    return torch.stack([ball(-4), torch.maximum(ball(-4), ball(4))])


def test_only_what_moves_is_variable(conformations):
    spread, mask = true_variability(conformations)
    assert torch.equal(mask, (ball(-4) + ball(4)) > 0)
    assert torch.equal(spread, 0.5 * ball(4))


def test_agreement_knows_the_truth_its_opposite_and_nothing(conformations):
    spread, mask = true_variability(conformations)
    assert agreement(spread, spread, mask) == pytest.approx(1)
    assert agreement(7 - 3 * spread, spread, mask) == pytest.approx(-1)
    assert agreement(torch.ones_like(spread), spread, mask) == 0
    # Half of what moves, and as much of what does not: ± 1 at random would be no better.
    x = torch.arange(BOX).expand(BOX, BOX, BOX)
    assert abs(agreement((x % 2).float(), spread, mask)) < 0.1


def test_maps_of_a_run_are_compared_by_name(conformations, tmp_path):
    run, truth = tmp_path / "run" / "volumes", tmp_path / "truth" / "conformations"
    for folder, maps in ((run, {"flexibility": ball(4), "attention_00": ball(-4)}), (truth, enumerate(conformations))):
        folder.mkdir(parents=True)
        for name, volume in dict(maps).items():
            write_volume(folder / f"{name}.mrc", volume, 2.0)
    found = agreements_of(tmp_path / "run", tmp_path / "truth")
    assert found == {"flexibility": pytest.approx(1), "attention_00": pytest.approx(-1)}
    (truth / "1.mrc").unlink()
    with pytest.raises(InputError, match="no true conformations"):
        agreements_of(tmp_path / "run", tmp_path / "truth")
    (run / "flexibility.mrc").unlink()
    with pytest.raises(InputError, match="flexible regions"):
        agreements_of(tmp_path / "run", tmp_path / "truth")
