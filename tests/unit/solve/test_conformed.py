"""The weight of the KL divergence, pass by pass."""

import pytest

from cryoloom.solve.conformed import LatentSettings


@pytest.mark.parametrize(
    ("rising", "passes", "expected"),
    [
        (2, 4, [0.0, 0.5, 1.0, 1.0]),
        (None, 4, [0.0, 0.5, 1.0, 1.0]),
        (None, 8, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]),
        (None, 1, [1.0]),
        (0, 3, [1.0, 1.0, 1.0]),
        (8, 3, [0.0, 0.125, 0.25]),
    ],
)
def test_weight_rises_over_some_passes_or_half_of_them(rising: int | None, passes: int, expected: list[float]) -> None:
    settings = LatentSettings(beta=1, beta_first=0, beta_passes=rising)
    assert settings.betas(passes) == pytest.approx(expected)


def test_weight_does_not_fall() -> None:
    assert LatentSettings(beta=0.1, beta_first=0.5, beta_passes=3).betas(4) == pytest.approx([0.1] * 4)
