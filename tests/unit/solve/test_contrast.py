"""The sign of a molecule: judged by its map, told as it looks in images with a CTF and without one."""

import pytest
import torch

from cryoloom.solve.contrast import contrast_of


@pytest.fixture
def molecule() -> torch.Tensor:
    """A few dense voxels in solvent."""
    density = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    density[:100] += 3
    return density


@pytest.mark.parametrize(("has_ctf", "upright", "inverted"), [(True, "black", "white"), (False, "white", "black")])
def test_the_map_tells_how_the_molecule_looks_in_the_images(molecule, has_ctf, upright, inverted):
    assert contrast_of(molecule, "auto", has_ctf) == (upright, 1)
    assert contrast_of(-molecule, "auto", has_ctf) == (inverted, -1)


@pytest.mark.parametrize("has_ctf", [True, False])
def test_what_the_user_says_counts(molecule, has_ctf):
    assert contrast_of(molecule, "black", has_ctf) == ("black", 1 if has_ctf else -1)
    assert contrast_of(-molecule, "white", has_ctf) == ("white", -1 if has_ctf else 1)
