"""Particles as every method sees them: normalised spectra and CTFs of a batch, read when asked for."""

from collections.abc import Callable

import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.data.preprocess import measure_scale, normalise
from cryoloom.model.poses.evidence import Evidence
from cryoloom.physics.formation import lattice_ctf
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.solve.session import Session
from cryoloom.solve.team import Team

BACKGROUND_RADIUS = 0.45
KEPT_BYTES = 1 << 29


class KeptSpectra:
    """Spectra (K, P) of the first particles that were read, as many as fit into `KEPT_BYTES` of the CPU's memory.

    Particles are read again and again; what is kept costs a copy instead of a file, a crop and a transform.
    """

    def __init__(self, particles: int, coefficients: int):
        self.slot = torch.full((particles,), -1)
        # Memory is taken as it is written, not before.
        self.spectra = torch.empty(
            min(particles, KEPT_BYTES // (8 * coefficients)), coefficients, dtype=torch.complex64
        )
        self.used = 0
        # How many outlier pixels each image had, kept or not; −1 before it is read.
        self.replaced = torch.full((particles,), -1, dtype=torch.int32)

    def get(self, index: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
        """Spectra (B, P) of the particles at `index` (B,), a copy; `read` gives those that are not kept."""
        slot = self.slot[index]
        kept, missing = torch.nonzero(slot >= 0)[:, 0], torch.nonzero(slot < 0)[:, 0]
        if not len(missing):
            return self.spectra[slot]
        out = self.spectra.new_empty(len(index), self.spectra.shape[1])
        out[kept] = self.spectra[slot[kept]]
        out[missing] = read(index[missing]).cpu()
        self._keep(index[missing], out[missing])
        return out

    def _keep(self, index: Tensor, spectra: Tensor) -> None:
        more = min(len(index), len(self.spectra) - self.used)
        end = self.used + more
        self.spectra[self.used : end] = spectra[:more]
        self.slot[index[:more]] = torch.arange(self.used, end)
        self.used = end


class WorkingImages:
    """Spectra of a particle set on the frequency lattice of its working box, one batch at a time.

    With a smaller `box` the lattice ends earlier and pixels are coarser: the field of view, and so every coefficient
    that is left, stays the same. With `finer` images of the same particles it shares what these keep.
    """

    def __init__(
        self,
        particles: Particles,
        device: torch.device | str = "cpu",
        box: int | None = None,
        finer: "WorkingImages | None" = None,
    ):
        self.particles = particles
        self.device = torch.device(device)
        self.box = min(box or particles.box, particles.box)
        self.pixel_size = particles.pixel_size * particles.box / self.box
        self.lattice = FrequencyLattice.of_box(self.box, self.device)
        self._all = FrequencyLattice.of_box(particles.box, self.device)
        self._radius_px = BACKGROUND_RADIUS * particles.box
        self._scale = finer._scale if finer is not None else measure_scale(particles, self._radius_px)
        self._kept = finer._kept if finer is not None else KeptSpectra(len(particles), len(self.lattice))

    def coarse(self, band: float) -> "WorkingImages":
        """The same images on the smallest box of 32 pixels or more that holds `band` with room to spare."""
        return WorkingImages(self.particles, self.device, max(32, 2 * int(band + 4)), self)

    @property
    def clean(self) -> bool:
        """Whether the images have no noise, as far as their background tells."""
        return self._scale.clean

    def __len__(self) -> int:
        return len(self.particles)

    def spectrum(self, index: Tensor) -> Tensor:
        """Spectra (B, P) of images normalised to background mean 0 and, as far as it can be told, deviation 1."""
        # Lattices are sorted alike: the smaller is a prefix of the larger.
        return self._kept.get(index.cpu(), self._read)[:, : len(self.lattice)].to(self.device)

    def _read(self, index: Tensor) -> Tensor:
        if len(index) == 1:
            # One transform rounds differently from several.
            return self._read(index.repeat(2))[:1]
        images, replaced = self.particles.clean_images(index)
        self._kept.replaced[index] = replaced.int()
        normalised = normalise(images.to(self.device), self._radius_px, self._scale)
        return self._all.spectrum(normalised)[:, : self._kept.spectra.shape[1]]

    def outliers(self, team: Team) -> tuple[int, int]:
        """How many of all images had outlier pixels replaced, and how many pixels; what is unread is read."""
        own, found = team.share(torch.arange(len(self))), self._kept.replaced
        if self.particles.noisy:
            for rows in self.chunks(own[found[own] < 0]):
                found[rows] = self.particles.mended(rows).replaced.int()
        counts = found[own].clamp(min=0)
        total = team.add([torch.stack([(counts > 0).sum(), counts.sum()])])[0].tolist()
        return int(total[0]), int(total[1])

    def ctf(self, index: Tensor, lattice: FrequencyLattice) -> Tensor:
        """CTF values (B, P) on `lattice`; ones where the particles have none."""
        parameters = self.particles.ctf(index).to(self.device) if self.particles.has_ctf else None
        return lattice_ctf(parameters, len(index), lattice, self.pixel_size)

    def evidence(self, index: Tensor, noise: Tensor, band: float) -> Evidence:
        """Evidence of the particles at `index` up to `band`, for a noise power per coefficient by shell, (D/2,)."""
        lattice = self.lattice.prefix(band)
        return self.evidence_of(self.spectrum(index)[:, : len(lattice)], index, noise, lattice)

    def evidence_of(self, spectrum: Tensor, index: Tensor, noise: Tensor, lattice: FrequencyLattice) -> Evidence:
        """The same from the particles' spectra (B, P) on a prefix of the lattice; the spectra's origin is set to 0."""
        # The mean grey value says nothing after normalisation.
        spectrum[:, 0] = 0
        return Evidence.of_images(spectrum, self.ctf(index, lattice), lattice.from_shells(noise), lattice)

    def mean_power(self, index: Tensor) -> Tensor:
        """Mean power per coefficient, (D/2,) by shell, of some images: signal and noise together."""
        return self.lattice.shell_mean(self.spectrum(index).abs().square().mean(0)).clamp(min=1e-12)

    def chunks(self, index: Tensor, size: int = 512) -> list[Tensor]:
        """The indices in pieces small enough to hold in memory."""
        return list(index.split(size))


def first_noise(images: WorkingImages, n: int = 1000) -> Tensor:
    """Noise power per coefficient (D/2,) to start with: the mean power of up to `n` images, signal included."""
    index = torch.linspace(0, len(images) - 1, min(n, len(images))).long()
    return images.mean_power(index)


def record_outliers(images: WorkingImages, session: Session) -> None:
    """Write down in metrics.jsonl, once a run, in how many images outlier pixels were replaced."""
    of_images, pixels = images.outliers(session.team)
    if session.team.leads and not any(line.get("stage") == "images" for line in session.run.metrics()):
        session.run.record(stage="images", particles=len(images), outlier_images=of_images, outlier_pixels=pixels)
