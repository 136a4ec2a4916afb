"""What the table of cryoDRGN2 says of poses of which only one axis was found."""

import pytest
import torch

from cryoloom.evaluate.bench.cryodrgn2 import long_axis_error
from cryoloom.physics.so3 import matrix_from_rotvec, random_rotations


def test_an_axis_that_was_found_is_seen_whatever_the_turn_about_it(generator):
    true, frame = random_rotations(500, generator), random_rotations(1, generator)[0]
    axis = torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
    turn = matrix_from_rotvec(axis * 6.3 * torch.rand(500, 1, generator=generator))
    assert long_axis_error(true @ turn @ frame, true) < 10
    assert long_axis_error(random_rotations(500, generator), true) == pytest.approx(90, abs=20)
