"""Movies against the truth of a simulation: the resolution of every frame's map, and where on its path it lies."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from cryoloom.data import read_particles
from cryoloom.data.files import existing
from cryoloom.errors import InputError
from cryoloom.evaluate.fsc import fsc
from cryoloom.evaluate.heterogeneity import TrueConformations
from cryoloom.evaluate.truth import match_particles
from cryoloom.physics.alignment import VolumeAlignment, align_volume, refine_volume
from cryoloom.physics.fourier import centred_fft3, centred_ifft3, radii3
from cryoloom.solve.decode import Decoder

# Beyond this part of Nyquist maps of single frames hold more noise than molecule.
LOW_PASS = 2 / 3


@dataclass(frozen=True)
class FrameScores:
    """Of N frames: resolution (N,) in Å at FSC 0.5 to the frame's true map, and FSC (N, D/2) itself.

    found, true: (N,) coordinate from 0 to 1 along the true conformations, of the recovered map and of the truth.
    psnr, ssim: (N,) peak signal to noise in dB and structural similarity, of both maps up to `LOW_PASS` of Nyquist.
    """

    resolution: Tensor
    curves: Tensor
    found: Tensor
    true: Tensor
    psnr: Tensor
    ssim: Tensor


@dataclass(frozen=True)
class MovieTruth:
    """True maps (K, D, D, D) and, of each particle of a run, which it is (N,) and its coordinate (N,)."""

    maps: Tensor
    conformation: Tensor
    coordinate: Tensor
    pixel_size: float

    @classmethod
    def of(cls, decoder: Decoder, truth: Path) -> "MovieTruth":
        """The truth of a run's particles in a folder of `simulate`. Raises InputError where it does not fit."""
        particles = read_particles(existing(truth / "particles.star", "STAR file of the truth"))
        if "conformation" not in particles.table:
            raise InputError(f"{particles.source} names no conformations: give the truth folder of `simulate`.")
        rows = match_particles(decoder.particles, particles).numpy()
        box = decoder.trained.box
        several = TrueConformations.of(truth, box)
        maps = several if len(several) else TrueConformations([existing(truth / "volume.mrc", "true map")], box)
        of_each = torch.from_numpy(particles.column("conformation")[rows].astype(np.int64))
        coordinate = torch.from_numpy(particles.column("conformation_coordinate")[rows].astype(np.float32))
        return cls(maps.stacked(), of_each, coordinate, decoder.trained.pixel_size)


def placed_on_truth(decoder: Decoder, truth: MovieTruth) -> list[VolumeAlignment]:
    """How the maps of a run that found its poses lie on each of the K true ones.

    Its mean conformation is laid on the mean of all, and from there its median map of each conformation on the true
    one: where domains travel nothing tells which part of a molecule stays, so each conformation has its own frame.
    """
    whole = align_volume(decoder.volume(decoder.z.mean(0)), truth.maps.mean(0))

    def placed(kind: int) -> VolumeAlignment:
        there = truth.conformation == kind
        if not there.any():
            return whole
        volume = decoder.volume(decoder.z[there].median(0).values)
        return refine_volume(volume, truth.maps[kind], whole.rotation, whole.hand_flipped, whole.translation)

    return [placed(kind) for kind in range(len(truth.maps))]


def score_frames(
    map_at: Callable[[Tensor], Tensor],
    truth: MovieTruth,
    mean: Tensor,
    rows: Iterable[int] | None = None,
    placed: Sequence[VolumeAlignment] | None = None,
) -> FrameScores:
    """Score the map (D, D, D) of each particle, `map_at` its latent mean of (N, Z).

    rows: of the particles that are scored, all by default; placed: how maps of each conformation are to be moved first.
    """
    chosen = list(range(len(mean)) if rows is None else rows)
    # Frames with the same latent and the same truth are scored once.
    both = torch.cat([mean[chosen], truth.conformation[chosen, None].to(mean)], 1)
    kinds, of_each = both.unique(dim=0, return_inverse=True)
    curves, numbers = [], []
    for kind in kinds:
        volume, true = map_at(kind[:-1]), truth.maps[int(kind[-1])]
        if placed is not None:
            volume = placed[int(kind[-1])].apply(volume)
        curve = fsc(volume, true, truth.pixel_size)
        curves.append(curve.fsc)
        numbers.append((curve.resolution(0.5), nearest_coordinate(volume, truth.maps), *likeness(volume, true)))
    resolution, found, psnr, ssim = torch.tensor(numbers)[of_each].T
    return FrameScores(resolution, torch.stack(curves)[of_each], found, truth.coordinate[chosen], psnr, ssim)


def likeness(volume: Tensor, true: Tensor) -> tuple[float, float]:
    """PSNR (dB) and SSIM of a map (D, D, D), in the grey values that fit the true one best, both low-passed."""
    fitted, b = fitted_to(volume, true)
    peak = float(b.max() - b.min())
    ssim = structural_similarity(b.numpy(), fitted.numpy(), data_range=peak)
    assert isinstance(ssim, float)
    return float(peak_signal_noise_ratio(b.numpy(), fitted.numpy(), data_range=peak)), ssim


def fitted_to(volume: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """A map (D, D, D) in the grey values that fit the true one best, and the true one; both low-passed, float64."""
    keep = radii3(len(true)) <= LOW_PASS * len(true) / 2
    a, b = (centred_ifft3(centred_fft3(map_) * keep).double() for map_ in (volume, true))
    a = a - a.mean()
    return ((a * b).sum() / a.square().sum()) * a + b.mean(), b


def nearest_coordinate(volume: Tensor, maps: Tensor) -> float:
    """Where between 0 and 1 a map (D, D, D) lies on a path of maps (K, D, D, D): the peak of its correlation.

    Between maps the peak is that of a parabola through the best one and its neighbours.
    """
    flat = maps.flatten(1) - maps.flatten(1).mean(1, keepdim=True)
    score = (flat @ (volume.flatten() - volume.mean())) / flat.norm(dim=1)
    best = int(score.argmax())
    last = len(maps) - 1
    if best in (0, last):
        return best / max(last, 1)
    before, peak, after = score[best - 1 : best + 2].tolist()
    bend = before - 2 * peak + after
    return (best + (0.5 * (before - after) / bend if bend < 0 else 0.0)) / last


def improvement(baseline: Tensor, resolution: Tensor) -> Tensor:
    """Improvement factors (N,), `(r_baseline − r) / r_baseline` (Ye et al. 2023, eq. 16)."""
    return (baseline - resolution) / baseline
