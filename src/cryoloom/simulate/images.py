"""Images of drawn particles, `y = C · slice + noise`, made batch by batch into a stack on disk: memory does not grow with N."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import mrcfile
import numpy as np
import torch
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.physics.formation import form_images, lattice_ctf
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.project import FourierSlice
from cryoloom.simulate.conformations import Conformations
from cryoloom.simulate.draws import Draws
from cryoloom.simulate.noise import noise_images
from cryoloom.simulate.settings import Simulation

_PIXELS_AT_ONCE = 2**21
_BYTES_OF_PROJECTORS = 2**30

Progress = Callable[[int], None]


class Imager:
    """Forms the noise-free images of drawn particles, conformation by conformation."""

    def __init__(self, settings: Simulation, conformations: Conformations, draws: Draws):
        self.settings, self.draws = settings, draws
        self.lattice = FrequencyLattice.of_box(settings.box)
        self.batch = max(256, _PIXELS_AT_ONCE // settings.box**2)
        grid_bytes = 4 * (settings.box * settings.pad + 5) ** 3
        keep = max(1, _BYTES_OF_PROJECTORS // grid_bytes)
        self.projector = lru_cache(maxsize=keep)(lambda i: FourierSlice.of_volume(conformations.volume(i), settings.pad))

    def batches(self) -> Iterator[tuple[FourierSlice, Tensor]]:
        """The projector and the rows (b,) of each batch; all particles of a conformation, then those of the next."""
        for i in self.draws.conformation.unique().tolist():
            rows = torch.nonzero(self.draws.conformation == i)[:, 0]
            for part in rows.split(self.batch):
                yield self.projector(i), part

    def signal_variance(self, progress: Progress) -> float:
        """Variance of the noise-free images over all pixels and particles, summed in Fourier space: ⟨x²⟩ − ⟨x⟩²."""
        square = total = 0.0
        for projector, rows in self.batches():
            rotations = self.draws.pose.best_rotation[rows]
            spectra = projector.project(rotations, self.lattice)
            ctf = None if self.draws.ctf is None else self.draws.ctf.select(rows)
            spectra = spectra * lattice_ctf(ctf, len(rows), self.lattice, self.settings.pixel_size)
            square += float((spectra.abs().square().sum(0) * self.lattice.weight).double().sum())
            total += float(spectra[:, 0].real.double().sum())
            progress(len(rows))
        pixels = self.settings.box**2
        n = self.settings.n
        return square / (n * pixels**2) - (total / (n * pixels)) ** 2

    def clean(self, projector: FourierSlice, rows: Tensor) -> Tensor:
        """Noise-free images (b, D, D) of the particles at `rows`."""
        ctf = None if self.draws.ctf is None else self.draws.ctf.select(rows)
        pose = self.draws.pose.select(rows)
        return self.lattice.images(form_images(projector, pose, ctf, self.lattice, self.settings.pixel_size))

    def write(
        self, path: Path, noise_std: float, spectrum: Tensor, generator: torch.Generator, progress: Progress
    ) -> None:
        """Write the images with noise of `noise_std` and normalised radial `spectrum` as an MRC stack."""
        with _stack(path, self.settings.n, self.settings.box, self.settings.pixel_size) as put:
            for projector, rows in self.batches():
                images = self.clean(projector, rows)
                if noise_std > 0:
                    images += noise_std * noise_images(len(rows), spectrum, self.settings, generator)
                put(rows.numpy(), images.numpy())
                progress(len(rows))


@contextmanager
def _stack(path: Path, n: int, box: int, pixel_size: float) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """A function that puts images (b, D, D) at rows (b,) of a new MRC stack, which appears under its name when complete."""
    low, high, total, square = np.inf, -np.inf, 0.0, 0.0
    with replacing(path) as temporary:
        with mrcfile.new_mmap(temporary, shape=(n, box, box), mrc_mode=2, overwrite=True) as mrc:

            def put(rows: np.ndarray, images: np.ndarray) -> None:
                nonlocal low, high, total, square
                assert mrc.data is not None
                mrc.data[rows] = images
                low, high = min(low, float(images.min())), max(high, float(images.max()))
                total += float(images.sum(dtype=np.float64))
                square += float(np.square(images, dtype=np.float64).sum())

            yield put
            mrc.set_image_stack()
            mrc.voxel_size = pixel_size
            # Statistics are kept while writing: computing them afterwards would read the whole stack into memory. The label
            # would carry the time of day, and the same seed give other bytes.
            header, count = mrc.header, n * box * box
            header.dmin, header.dmax, header.dmean = low, high, total / count
            header.rms = np.sqrt(max(square / count - (total / count) ** 2, 0))
            header.label[0] = "cryoloom simulate"
