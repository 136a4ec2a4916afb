from pathlib import Path

import pytest
import torch
from torch_fourier_shell_correlation import fourier_shell_correlation as library_fsc

from cryoloom.errors import InputError
from cryoloom.evaluate.fsc import FSCCurve, fsc


def noisy_pair(box: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(box, box, box, generator=generator)
    return a, a + torch.randn(box, box, box, generator=generator)


def test_agrees_with_the_library():
    a, b = noisy_pair(48)
    ours, theirs = fsc(a, b, 1.0).fsc, library_fsc(a, b)
    # The library shares a coefficient between neighbouring shells, which shows where shells hold few of them.
    torch.testing.assert_close(ours[5:], theirs[5 : len(ours)].float(), atol=0.03, rtol=0)


def test_identical_maps_correlate_everywhere():
    a, _ = noisy_pair(16)
    curve = fsc(a, a, 2.0)
    torch.testing.assert_close(curve.fsc, torch.ones(8))
    assert curve.resolution(0.5) == pytest.approx(16 * 2.0 / 7)


def test_resolution_is_where_the_curve_crosses():
    curve = FSCCurve(torch.tensor([1.0, 1.0, 0.8, 0.2, 0.0, 0.0]), box=12, pixel_size=1.5)
    assert curve.shell_at(0.5) == pytest.approx(2.5)
    assert curve.resolution(0.5) == pytest.approx(12 * 1.5 / 2.5)


def test_mask_is_applied_to_both():
    a, b = noisy_pair(16)
    mask = torch.zeros(16, 16, 16)
    mask[4:12, 4:12, 4:12] = 1
    torch.testing.assert_close(fsc(a, b, 1.0, mask).fsc, fsc(a * mask, b * mask, 1.0).fsc)


def test_csv_round_trip(tmp_path: Path):
    curve = fsc(*noisy_pair(16), 1.7)
    curve.to_csv(tmp_path / "fsc.csv")
    back = FSCCurve.from_csv(tmp_path / "fsc.csv")
    assert back.box == 16
    assert back.pixel_size == pytest.approx(1.7, rel=1e-4)
    torch.testing.assert_close(back.fsc, curve.fsc, atol=1e-6, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["fsc.csv"]


def test_errors_are_one_sentence(tmp_path: Path):
    with pytest.raises(InputError, match="16 × 16 × 16"):
        fsc(torch.zeros(16, 16, 16), torch.zeros(8, 8, 8), 1.0)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="shell, resolution_angst, fsc"):
        FSCCurve.from_csv(tmp_path / "bad.csv")
