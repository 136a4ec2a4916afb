"""One door for every kind of particle file."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from cryoloom.data.assemble import Found, assemble
from cryoloom.data.cryodrgn import read_ctf_pickle, read_index_pickle, read_pose_pickle
from cryoloom.data.cryosparc import find_cs
from cryoloom.data.files import existing, locate
from cryoloom.data.mrc import read_stack
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
    require_images: bool = False,
) -> Particles:
    """Particles of a RELION .star, cryoSPARC .cs, .mrcs stack (.gz, .bz2) or .txt list of stacks.

    datadir: folder of the stacks. ctf, poses: files that give or replace CTF and poses, cryoDRGN .pkl or any particle
    file with the same rows; for a .cs, `ctf` may be its passthrough file. ind: cryoDRGN .pkl or .npy of the rows to
    keep. limit: at most this many, from the front. half_set: that half of them, the file's own or a fixed random one.
    box: working box, even. pixel_size: Å, overrides the file.
    require_images: stacks must exist. Raises InputError for whatever cannot be used as it is.
    """
    source = existing(path, "particle file")
    passthrough = Path(ctf) if ctf is not None and _kind(source) == ".cs" and _kind(Path(ctf)) == ".cs" else None
    found = _find(source, datadir, passthrough)
    if ctf is not None and passthrough is None:
        _override_ctf(found, existing(ctf, "CTF file"))
    if pixel_size is not None:
        found.pixel_size = pixel_size
    particles = assemble(found, require_images=require_images)
    if poses is not None:
        particles = particles.with_poses(_poses_of(existing(poses, "pose file"), particles))
    if ind is not None:
        particles = particles.subset(read_index_pickle(ind, len(particles)))
    if limit is not None and limit < len(particles):
        particles = particles.subset(slice(0, max(limit, 1)))
    if half_set is not None:
        particles = particles.subset(particles.half_sets(seed=0)[half_set - 1].numpy())
    if box is not None:
        return particles.with_box(box)
    if particles.box % 2:
        raise InputError(
            f"{source}: the box of {particles.box} pixels is odd; expected an even one: give box {particles.box - 1}."
        )
    return particles


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = len(suffixes) > 1 and suffixes[-1] in (".gz", ".bz2")
    return suffixes[-2] if packed else (suffixes[-1] if suffixes else "")


def _find(source: Path, datadir: str | Path | None, passthrough: Path | None = None) -> Found:
    kind = _kind(source)
    if kind == ".star":
        return find_star(source, datadir)
    if kind == ".cs":
        return find_cs(source, datadir, passthrough)
    if kind in (".mrcs", ".mrc"):
        return _find_stacks(source, [source])
    if kind == ".txt":
        names = [line.strip() for line in source.read_text(errors="replace").splitlines() if line.strip()]
        stacks = [locate(name, source, datadir) for name in names]
        for line, stack in enumerate(stacks, 1):
            if not stack.is_file():
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
    return Found(source, len(code), columns)


def _check_rows(found: int, needed: int, path: Path, source: Path) -> None:
    if found != needed:
        raise InputError(f"{path} has {found} rows, but {source} has {needed} particles: give the file made for them.")


def _override_ctf(found: Found, path: Path) -> None:
    if _kind(path) == ".pkl":
        columns: dict[str, Any] = read_ctf_pickle(path)
        other = Found(path, len(columns["defocus_u"]), box=columns.pop("box"), pixel_size=columns.pop("pixel_size"))
        # The pickle may have been made before the images were binned: what stays is the length of the box in Å.
        names = found.columns["image_file"]
        exists = [str(name) for name in names.categories if Path(name).is_file()]
        box = read_stack(exists[0]).shape[2] if exists else other.box if found.box is None else found.box
        found.pixel_size = np.asarray(other.pixel_size) * np.asarray(other.box) / box
    else:
        other = _find(path, None)
        columns = {name: other.columns[name] for name in CTF_COLUMNS if name in other.columns}
        if "defocus_u" not in columns:
            raise InputError(f"{path} has no CTF (defocus): give a file with CTF columns.")
    _check_rows(other.n, found.n, path, found.source)
    found.columns = {name: value for name, value in found.columns.items() if name not in CTF_COLUMNS} | columns
    found.labels |= {name: other.label(name) for name in CTF_COLUMNS}
    if found.pixel_size is None:
        found.pixel_size = other.pixel_size


def _poses_of(path: Path, particles: Particles) -> Pose:
    if _kind(path) == ".pkl":
        rotation, fraction = read_pose_pickle(path)
        _check_rows(len(rotation), len(particles), path, particles.source)
        # cryoDRGN's translations centre the image, in fractions of the box; ours move the projection, in Å.
        shift = -fraction * particles.source_box * particles.source_pixel_size
        return Pose.single(torch.from_numpy(rotation), torch.from_numpy(shift.astype(np.float32)))
    other = _find(path, None)
    _check_rows(other.n, len(particles), path, particles.source)
    return replace(particles, **_pose_fields(other, particles)).poses()


def _pose_fields(other: Found, particles: Particles) -> dict[str, Any]:
    if other.rotation is None:
        raise InputError(f"{other.source} has no poses (rlnAngleRot … or alignments3D): give a file with poses.")
    pixel = particles.source_pixel_size if other.shift_in_pixels else 1.0
    if other.shift_in_pixels and other.pixel_size is not None:
        pixel = np.asarray(other.pixel_size)
    shifts = {name: np.asarray(other.columns.get(name, 0)) * pixel for name in ("shift_x", "shift_y")}
    return {"table": particles.with_columns(**shifts).table, "rotation": other.rotation.astype(np.float32)}
