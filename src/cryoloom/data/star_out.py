"""RELION's STAR files, written: 3.1 with optics groups, re-importable by RELION and by us."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile
from torch import Tensor

from cryoloom.data.files import relative_name, replacing
from cryoloom.data.particles import CANONICAL, Particles
from cryoloom.data.star import ANGLES, PLAIN
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import euler_from_matrix

_OPTICS = ("voltage_kv", "cs_mm", "amplitude_contrast")
_PER_PARTICLE = ("defocus_u", "defocus_v", "defocus_angle", "phase_shift", "b_factor")
# Their values stand in data_optics of what we write; a second copy on each row could contradict them.
_MOVED = {"rlnDetectorPixelSize", "rlnMagnification", "rlnImagePixelSize", "rlnImageSize", "rlnPixelSize"}


def write_star(
    path: str | Path,
    particles: Particles,
    pose: Pose | None = None,
    columns: dict[str, Any] | None = None,
) -> None:
    """Write a RELION 3.1 STAR file: data_optics, and data_particles with CTF, poses and whatever the source rows said.

    pose: replaces the particles' own, best hypothesis. columns: further columns (N,), written under their own names
    (rotation_sigma_deg, latent_1 …); half_set also becomes rlnRandomSubset. Image names point at the stacks on disk.
    """
    path = Path(path)
    if pose is not None:
        particles = particles.with_poses(pose)
    if columns:
        particles = particles.with_columns(**columns)
    group, optics = _optics(particles)
    rows = _rows(particles, path.parent)
    rows["rlnOpticsGroup"] = group
    table = pd.DataFrame(rows)
    with replacing(path) as temporary:
        starfile.write({"optics": optics, "particles": table}, temporary, float_format="%.9g", sep="\t", overwrite=True)


def _optics(particles: Particles) -> tuple[np.ndarray, pd.DataFrame]:
    """Group of each particle and the optics table: the file's groups, split where particles of one differ."""
    keys = np.stack([particles.column(name) for name in ("optics_group", *_OPTICS)], -1).astype(np.float64)
    _, first, codes = np.unique(np.nan_to_num(keys, nan=-1), axis=0, return_index=True, return_inverse=True)
    split = particles.column("optics_group")[first]
    numbers = split if len(np.unique(split)) == len(split) else np.arange(1, len(split) + 1)
    optics = pd.DataFrame({"rlnOpticsGroup": numbers, "rlnOpticsGroupName": [f"opticsGroup{n}" for n in numbers]})
    source = particles.optics
    if source is not None and "rlnOpticsGroup" in source:
        kept = source.set_index("rlnOpticsGroup").reindex(split).reset_index(drop=True)
        for label in kept.columns[kept.notna().all()]:
            optics[label] = kept[label]
    for name in _OPTICS:
        values = particles.column(name)[first]
        if np.isfinite(values).all():
            optics[PLAIN[name]] = values
    optics["rlnImagePixelSize"] = np.float64(particles.source_pixel_size)
    if particles.source_box:
        optics["rlnImageSize"] = particles.source_box
    optics["rlnImageDimensionality"] = 2
    return numbers[codes], optics


def _rows(particles: Particles, folder: Path) -> dict[str, Any]:
    table, column = particles.table, particles.column
    files = table["image_file"].cat
    stacks = [relative_name(str(name), folder) for name in files.categories]
    pairs = zip(column("image_index"), files.codes.to_numpy(), strict=True)
    rows: dict[str, Any] = {"rlnImageName": [f"{index + 1:06d}@{stacks[code]}" for index, code in pairs]}
    for name, label in (("micrograph_name", "rlnMicrographName"), ("movie_id", "cryoloomMovieId")):
        if (column(name) != "").any():
            rows[label] = column(name)
    if "cryoloomMovieId" in rows:
        rows["cryoloomFrame"] = column("frame")
    if particles.has_ctf:
        rows |= {PLAIN[name]: table[name] for name in _PER_PARTICLE}
    if particles.has_poses:
        best = particles.poses()
        degrees: Tensor = euler_from_matrix(best.best_rotation.double())
        rows |= {label: degrees[:, i].numpy() for i, label in enumerate(ANGLES)}
        # Adding zero turns −0 into 0.
        rows |= {f"rlnOrigin{axis}Angst": (0.0 - best.best_shift[:, i].double()).numpy() for i, axis in enumerate("XY")}
    if column("half_set").any():
        rows |= {"rlnRandomSubset": column("half_set"), "half_set": column("half_set")}
    for name in table.columns:
        if name not in CANONICAL and name not in _MOVED and name not in rows:
            rows[str(name)] = column(name)
    return rows
