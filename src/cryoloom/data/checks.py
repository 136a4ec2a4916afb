"""What may be wrong with particles although they can be read: broken images, doubtful pixel sizes, contrast, CTF."""

from typing import NamedTuple

import numpy as np

from cryoloom.data.findings import Finding
from cryoloom.data.half_sets import half_set_findings
from cryoloom.data.mrc import read_stack
from cryoloom.data.particles import Particles
from cryoloom.data.preprocess import sample_rows
from cryoloom.errors import InputError

_BATCH = 256


class ImageCounts(NamedTuple):
    """Of n images read: rows that cannot be used, why (numbers in `FAULTS`), images with outliers, outlier pixels."""

    n: int
    rows: np.ndarray
    fault: np.ndarray
    outlier_images: int
    outlier_pixels: int


def count_images(particles: Particles, rows: np.ndarray) -> ImageCounts:
    """What the images at `rows` are like, read once; raises InputError where a stack is missing or cut short."""
    faults, replaced = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _BATCH):
        part = slice(start, start + _BATCH)
        mended = particles.mended(rows[part])
        faults[part], replaced[part] = mended.fault.numpy(), mended.replaced.numpy()
    bad = np.flatnonzero(faults)
    return ImageCounts(len(rows), rows[bad], faults[bad], int((replaced > 0).sum()), int(replaced.sum()))


def check_images(particles: Particles, n_sample: int = 1000) -> None:
    """Read up to `n_sample` images spread over the particles; InputError names the first that cannot be used."""
    counted = count_images(particles, sample_rows(particles, n_sample))
    if len(counted.rows):
        raise InputError(particles.fault_text(int(counted.rows[0]), int(counted.fault[0])))


def findings(particles: Particles, n_sample: int = 400) -> list[Finding]:
    """Everything that looks wrong or is missing in the table and in `n_sample` images, in the order to mend it."""
    found: list[Finding] = list(particles.findings)
    missing = particles.missing_files()
    if missing:
        found.append(Finding(f"{len(missing)} image stacks are missing, first {missing[0]}: give --datadir", True))
    else:
        try:
            found += _of_images(particles, count_images(particles, sample_rows(particles, n_sample)))
        except InputError as error:
            found.append(Finding(str(error), True))
    if not particles.has_ctf:
        found.append(Finding("no CTF: right only for images without one", False))
    found += _doubtful_numbers(particles)
    return found


def _of_images(particles: Particles, counted: ImageCounts) -> list[Finding]:
    found, read = [], f"{counted.n:,} images"
    if len(counted.rows):
        text = particles.fault_text(int(counted.rows[0]), int(counted.fault[0]))
        others = f"{len(counted.rows):,} of {read} cannot be used, the first: " if len(counted.rows) > 1 else ""
        found.append(Finding(others + text, True))
    if counted.outlier_images:
        text = (
            f"outlier pixels (hot or dead) in {counted.outlier_images:,} of {read}, {counted.outlier_pixels:,} in all: "
            "each is replaced by the median of its neighbours when the image is read"
        )
        found.append(Finding(text, False))
    return found


def _doubtful_numbers(particles: Particles) -> list[Finding]:
    found = []
    if not 0.2 <= particles.source_pixel_size <= 20:
        found.append(Finding(f"pixel size {particles.source_pixel_size:g} Å is unusual: check it", True))
    if particles.has_images and particles.files():
        header = read_stack(particles.files()[0]).pixel_size[0]
        if header > 0 and header != 1 and abs(header - particles.source_pixel_size) > 0.02 * header:
            found.append(
                Finding(f"pixel size {particles.source_pixel_size:g} Å, but the stack's header says {header:g} Å", True)
            )
    if particles.has_ctf:
        defocus = (particles.column("defocus_u") + particles.column("defocus_v")) / 2
        if np.median(defocus) < 0:
            found.append(Finding("defocus is negative: expected Å, positive for underfocus", True))
        elif 0 < np.median(defocus) < 100:
            found.append(Finding("defocus is below 100 Å: it may be in µm, expected Å", True))
        if particles.column("voltage_kv").max() > 1000:
            found.append(Finding("voltage is above 1000 kV: it may be in V", True))
    if particles.has_poses and particles.box:
        reach = float(np.abs(particles.table[["shift_x", "shift_y"]].to_numpy()).max())
        if reach > particles.source_box * particles.source_pixel_size / 2:
            found.append(Finding(f"shifts of up to {reach:.0f} Å leave the box: check their unit", True))
    return found + half_set_findings(particles)
