"""Images of drawn particles, `y = C · slice + noise`, made in batches on disk: memory stays flat."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import mrcfile
import numpy as np
import torch
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.errors import InputError
from cryoloom.physics.formation import form_images
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.project import FourierSlice
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.draws import JUNK, Draws
from cryoloom.simulate.noise import noise_images
from cryoloom.simulate.settings import Simulation

_PIXELS_AT_ONCE = 2**21

Progress = Callable[[str, int, int], None]


def clean_images(settings: Simulation, conformations: Conformations, draws: Draws) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (b,) and noise-free images (b, D, D) in batches: all particles of a conformation, then those of the next.

    Images without a particle are left out.
    """
    lattice = FrequencyLattice.of_box(settings.box)
    for i in draws.conformation[draws.conformation != JUNK].unique().tolist():
        projector = FourierSlice.of_volume(conformations.volume(i), settings.sampling)
        for rows in torch.nonzero(draws.conformation == i)[:, 0].split(_batch(settings)):
            ctf = None if draws.ctf is None else draws.ctf.select(rows)
            spectra = form_images(projector, draws.pose.select(rows), ctf, lattice, settings.pixel_size)
            yield rows, lattice.images(spectra)


def _batch(settings: Simulation) -> int:
    return max(256, _PIXELS_AT_ONCE // settings.box**2)


def write_images(
    path: Path,
    settings: Simulation,
    conformations: Conformations,
    draws: Draws,
    spectrum: Tensor,
    generator: torch.Generator,
    progress: Progress,
) -> tuple[float, float]:
    """Write all images as an MRC stack and return the variances of signal and noise, which is 0 at infinite SNR.

    The stack is first written clean, since the noise follows from the variance of all of it. spectrum: (D/2,), of unit
    variance. Raises InputError where there is no signal.
    """
    shape = (settings.n, settings.box, settings.box)
    with replacing(path) as temporary, mrcfile.new_mmap(temporary, shape=shape, mrc_mode=2, overwrite=True) as mrc:
        pixels = cast(np.ndarray, mrc.data)
        statistics = _Statistics()
        for rows, images in clean_images(settings, conformations, draws):
            pixels[rows.numpy()] = images.numpy()
            statistics.add(images)
            progress("projecting", len(rows), settings.n)
        signal = statistics.variance
        if not signal > 0:
            raise InputError(
                "the images are empty: the STRUCTURE has no density in the box, or --junk leaves no particle."
            )
        noise = 0.0 if math.isinf(settings.snr) else signal / settings.snr
        if noise:
            statistics = _Statistics()
            for start in range(0, settings.n, _batch(settings)):
                part = pixels[start : start + _batch(settings)]
                part += math.sqrt(noise) * noise_images(len(part), spectrum, settings, generator).numpy()
                statistics.add(torch.from_numpy(part))
                progress("adding noise", len(part), settings.n)
        mrc.set_image_stack()
        mrc.voxel_size = settings.pixel_size
        header = cast(np.recarray, mrc.header)
        statistics.into(header)
        # The library's label carries the time of day: the same seed would give other bytes.
        header.label[0] = "cryoloom simulate"
    return signal, noise


class _Statistics:
    """Extremes, mean and variance of all pixels, kept while writing: a second reading would need it all in memory."""

    def __init__(self) -> None:
        self.low, self.high, self.sum, self.square, self.count = math.inf, -math.inf, 0.0, 0.0, 0

    def add(self, images: Tensor) -> None:
        flat = images.flatten()
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        # Image by image single precision is exact enough; over a whole stack it is not.
        self.sum += float(images.sum((1, 2)).double().sum())
        self.square += float(images.square().sum((1, 2)).double().sum())
        self.count += flat.numel()

    @property
    def variance(self) -> float:
        if not self.count:
            return 0.0
        return max(self.square / self.count - (self.sum / self.count) ** 2, 0.0)

    def into(self, header: np.recarray) -> None:
        header.dmin, header.dmax = self.low, self.high
        header.dmean, header.rms = self.sum / self.count, math.sqrt(self.variance)
