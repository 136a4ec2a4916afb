"""One door for every kind of particle file."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from cryoloom.data.assemble import Found, assemble
from cryoloom.data.cryodrgn import read_ctf_pickle, read_index_pickle, read_pose_pickle
from cryoloom.data.cryosparc import find_cs
from cryoloom.data.files import existing, locate, reading
from cryoloom.data.findings import Finding
from cryoloom.data.half_sets import half_sets
from cryoloom.data.matching import Matched, check_rows, matching_rows
from cryoloom.data.mrc import Stack, read_stack
from cryoloom.data.particles import CTF_COLUMNS, Particles
from cryoloom.data.star import find_star
from cryoloom.errors import InputError
from cryoloom.physics.pose import Pose

_KINDS = "expected .star, .cs, .mrcs, .mrc or a .txt list of stacks"


def read_particles(
    path: str | Path,
    *,
    datadir: str | Path | None = None,
    ctf: str | Path | None = None,
    poses: str | Path | None = None,
    ind: str | Path | None = None,
    limit: int | None = None,
    half_set: Literal[1, 2] | None = None,
    box: int | None = None,
    pixel_size: float | None = None,
    by_position: bool = False,
    symmetry: str = "C1",
    require_images: bool = False,
) -> Particles:
    """Particles of a RELION .star, cryoSPARC .cs, .mrcs stack (.gz, .bz2) or .txt list of stacks.

    datadir: folder of the stacks. ctf, poses: files that give or replace CTF and poses: cryoDRGN .pkl with the same
    rows, or any particle file of the same images, whose rows are matched by image (by their position with by_position);
    for a .cs, `ctf` may be its passthrough file. ind: cryoDRGN .pkl or .npy of the rows to keep. limit: at most this
    many, from the front. half_set: that half of them, the file's own or a fixed random one. box: working box, even.
    pixel_size: Å, instead of the file's; shifts in Å are scaled with it. symmetry: of the molecule; where cryoSPARC has
    it on other axes, poses of a .cs are turned to ours. require_images: stacks must exist. Raises
    InputError for whatever cannot be used as it is.
    """
    source = existing(path, "particle file")
    passthrough = Path(ctf) if ctf is not None and _kind(source) == ".cs" and _kind(Path(ctf)) == ".cs" else None
    found = _find(source, datadir, passthrough, symmetry)
    if ctf is not None and passthrough is None:
        _override_ctf(found, existing(ctf, "CTF file"), datadir, by_position)
    if pixel_size is not None:
        _replace_pixel_size(found, pixel_size)
    particles = assemble(found, require_images=require_images)
    if poses is not None:
        particles = _with_poses(particles, found, existing(poses, "pose file"), datadir, by_position, symmetry)
    if ind is not None:
        particles = particles.subset(read_index_pickle(ind, len(particles)))
    if limit is not None and limit < len(particles):
        particles = particles.subset(slice(0, max(limit, 1)))
    if half_set is not None:
        particles = particles.subset(half_sets(particles, seed=0)[half_set - 1].numpy())
    if box is not None:
        return particles.with_box(box)
    if particles.box % 2:
        # Every transform here is of an even box.
        text = f"images of {particles.box} pixels, an odd number, are worked on at {particles.box - 1}"
        particles = replace(particles.with_box(particles.box - 1), findings=(*particles.findings, Finding(text, False)))
    return particles


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = len(suffixes) > 1 and suffixes[-1] in (".gz", ".bz2")
    return suffixes[-2] if packed else (suffixes[-1] if suffixes else "")


def _find(source: Path, datadir: str | Path | None, passthrough: Path | None = None, symmetry: str = "C1") -> Found:
    kind = _kind(source)
    if kind == ".star":
        with reading(source, "particle STAR file"):
            return find_star(source, datadir)
    if kind == ".cs":
        with reading(source, "cryoSPARC .cs file"):
            return find_cs(source, datadir, passthrough, symmetry)
    if kind in (".mrcs", ".mrc"):
        return _find_stacks(source, [source])
    if kind == ".txt":
        names = [line.strip() for line in source.read_text(errors="replace").splitlines() if line.strip()]
        stacks = [locate(name, source, datadir) for name in names]
        for line, stack in enumerate(stacks, 1):
            if not os.path.isfile(stack):
                raise InputError(f"{source}, line {line}: {stack} does not exist; give its folder as datadir.")
        if not stacks:
            raise InputError(f"{source} names no stack; expected one .mrcs file a line.")
        return _find_stacks(source, stacks)
    raise InputError(f"{source}: unknown type {source.suffix or '(none)'}; {_KINDS}.")


def _find_stacks(source: Path, paths: list[Path]) -> Found:
    stacks = [read_stack(path) for path in paths]
    for stack in stacks:
        _, ny, nx = stack.shape
        if ny != nx:
            raise InputError(f"{stack.path}: the images are {ny}x{nx} pixels; expected squares: extract them again.")
        if len(stack) == nx and _kind(stack.path) != ".mrcs":
            raise InputError(f"{stack.path} looks like a volume of {nx}³ voxels; if it is a stack, rename it to .mrcs.")
    lengths = [len(stack) for stack in stacks]
    code = np.repeat(np.arange(len(stacks)), lengths)
    names = pd.Index([str(stack.path) for stack in stacks], dtype=object)
    if not names.is_unique:
        raise InputError(f"{source} names {names[names.duplicated()][0]} twice; expected each stack once.")
    columns = {
        "image_file": pd.Categorical.from_codes(code, names),
        "image_index": np.concatenate([np.arange(n) for n in lengths]),
    }
    return Found(source, len(code), columns, named=False)


def _replace_pixel_size(found: Found, pixel_size: float) -> None:
    """Take another pixel size, in Å, than the file's; shifts in Å keep the pixels that they stand for."""
    found.rescaled = pixel_size / before if (before := _pixel_size_of(found)) else 1.0
    found.pixel_size = pixel_size
    if found.rescaled == 1 or found.shift_in_pixels:
        return
    for name in {"shift_x", "shift_y"} & set(found.columns):
        found.columns[name] = np.asarray(found.columns[name]) * found.rescaled
    if "shift_x" in found.columns:
        text = f"shifts in Å were multiplied by {found.rescaled:.4g}, as the pixel size is {pixel_size:g} Å now"
        found.findings.append(Finding(text, False))


def _pixel_size_of(found: Found) -> float:
    """The pixel size in Å that the file gives, or its first stack; 0 where neither does."""
    if found.pixel_size is not None:
        return float(np.atleast_1d(np.asarray(found.pixel_size, dtype=float))[0])
    stack = _first_stack(found)
    return 0.0 if stack is None else max(float(stack.pixel_size[0]), 0.0)


def _first_stack(found: Found) -> Stack | None:
    """The first stack that is there."""
    names = (str(name) for name in found.columns["image_file"].categories)
    first = next((name for name in names if os.path.isfile(name)), None)
    return None if first is None else read_stack(first)


def _override_ctf(found: Found, path: Path, datadir: str | Path | None, by_position: bool) -> None:
    if _kind(path) == ".pkl":
        columns: dict[str, Any] = read_ctf_pickle(path)
        other = Found(path, len(columns["defocus_u"]), box=columns.pop("box"), pixel_size=columns.pop("pixel_size"))
        check_rows(other.n, found.n, path, found.source)
        # The pickle may have been made before the images were binned: what stays is the length of the box in Å.
        stack = _first_stack(found)
        box = stack.shape[2] if stack is not None else other.box if found.box is None else found.box
        found.pixel_size = np.asarray(other.pixel_size) * np.asarray(other.box) / box
    else:
        other = _find(path, datadir)
        matched = matching_rows(found.images, other.images, by_position)
        missing = np.flatnonzero(matched.rows < 0)
        if len(missing):
            raise InputError(
                f"{path} has no row for particle {missing[0] + 1} of {found.source}, "
                f"{found.images.text(int(missing[0]))}: give the CTF of all particles."
            )
        columns = {name: _of_rows(other, name, matched.rows) for name in CTF_COLUMNS if name in other.columns}
        if "defocus_u" not in columns:
            raise InputError(f"{path} has no CTF (defocus): give a file with CTF columns.")
        found.findings += _said(path, "CTF", matched)
        if other.pixel_size is not None:
            other.pixel_size = np.broadcast_to(np.asarray(other.pixel_size), other.n)[matched.rows]
    found.columns = {name: value for name, value in found.columns.items() if name not in CTF_COLUMNS} | columns
    found.labels |= {name: other.label(name) for name in CTF_COLUMNS}
    if found.pixel_size is None:
        found.pixel_size = other.pixel_size


def _of_rows(found: Found, name: str, rows: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(found.columns.get(name, 0)), found.n)[rows]


def _said(path: Path, what: str, matched: Matched) -> list[Finding]:
    return [Finding(f"{what} of {path}: {matched.how}", False)] if matched.how else []


def _with_poses(
    particles: Particles, found: Found, path: Path, datadir: str | Path | None, by_position: bool, symmetry: str
) -> Particles:
    """The particles with the poses of a file, NaN where it has no row for an image."""
    if _kind(path) == ".pkl":
        rotation, fraction = read_pose_pickle(path)
        check_rows(len(rotation), len(particles), path, particles.source)
        # cryoDRGN's translations centre the image, in fractions of the box; ours move the projection, in Å.
        shift = -fraction * particles.source_box * particles.source_pixel_size
        return particles.with_poses(Pose.single(torch.from_numpy(rotation), torch.from_numpy(shift.astype(np.float32))))
    other = _find(path, datadir, symmetry=symmetry)
    if other.rotation is None:
        raise InputError(f"{path} has no poses (rlnAngleRot … or alignments3D): give a file with poses.")
    matched = matching_rows(found.images, other.images, by_position)
    pixel: Any = particles.source_pixel_size if other.shift_in_pixels else 1.0
    if other.shift_in_pixels and other.pixel_size is not None:
        pixel = np.broadcast_to(np.asarray(other.pixel_size), other.n)[matched.rows]
    rotation = other.rotation[matched.rows].astype(np.float32)
    rotation[matched.rows < 0] = np.nan
    pixel = pixel * (1.0 if other.shift_in_pixels and other.pixel_size is None else found.rescaled)
    shifts = {name: _of_rows(other, name, matched.rows) * pixel for name in ("shift_x", "shift_y")}
    findings = (*particles.findings, *other.findings, *_said(path, "poses", matched))
    return replace(particles.with_columns(**shifts), rotation=rotation, findings=findings, pose_file=path)
