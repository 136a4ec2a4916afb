"""What may be wrong with particles although they can be read: broken images, doubtful pixel sizes, contrast, CTF."""

from dataclasses import dataclass

import numpy as np
import torch

from cryoloom.data.mrc import read_stack
from cryoloom.data.particles import Particles
from cryoloom.data.preprocess import estimate_contrast_sign, sample_rows
from cryoloom.errors import InputError

_BATCH = 256


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing: a sentence, and whether a reconstruction should be expected to suffer from it."""

    text: str
    serious: bool


def check_images(particles: Particles, n_sample: int = 1000) -> None:
    """Read up to `n_sample` images spread over the particles; InputError names the first that is NaN or constant."""
    rows = sample_rows(particles, n_sample)
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        images = particles.images(part).flatten(1)
        broken = ~torch.isfinite(images).all(1)
        constant = images.amax(1) == images.amin(1)
        reasons = ((broken, "holds values that are not finite"), (constant, "has one value in every pixel"))
        for flags, what in reasons:
            if bool(flags.any()):
                row = particles.table.iloc[part[int(torch.nonzero(flags)[0, 0])]]
                raise InputError(
                    f"{particles.source}, particle {row['source_row'] + 1}: image {row['image_index'] + 1} of "
                    f"{row['image_file']} {what}: remove that particle."
                )


def findings(particles: Particles, n_sample: int = 400) -> list[Finding]:
    """Everything that looks wrong or is missing, in the order in which it should be mended."""
    found: list[Finding] = []
    missing = particles.missing_files()
    if missing:
        found.append(Finding(f"{len(missing)} image stacks are missing, first {missing[0]}: give --datadir", True))
    else:
        try:
            check_images(particles, n_sample)
        except InputError as error:
            found.append(Finding(str(error), True))
    if not particles.has_ctf:
        found.append(Finding("no CTF: right only for images without one", False))
    found += _doubtful_numbers(particles)
    if particles.has_images and not any(finding.serious for finding in found):
        found.append(_contrast(particles, n_sample))
    return found


def _contrast(particles: Particles, n_sample: int) -> Finding:
    sign, evidence = estimate_contrast_sign(particles, n_sample)
    white = sign == (-1 if particles.has_ctf else 1)
    text = {0: "contrast"}.get(sign, "contrast: the molecule is " + ("white" if white else "black") + " in the images")
    # Either sign is a habit, not a fault: the map is turned positive in the end.
    return Finding(f"{text} ({evidence})", False)


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
    duplicated = int(np.asarray(particles.table.duplicated(["image_file", "image_index"])).sum())
    if duplicated:
        found.append(Finding(f"{duplicated} images are listed more than once", False))
    return found
