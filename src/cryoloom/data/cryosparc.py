"""cryoSPARC's .cs tables: numpy records, joined by uid with their passthrough files.

Conventions that end here: `alignments3D/pose` is an axis-angle vector with R = exp(pose)ᵀ; `alignments3D/shift` is
rlnOrigin in pixels of `alignments3D/psize_A`, so the negative of our shift; angles are in radians; splits 0 and 1 are
half-sets 1 and 2; Dn has a 2-fold axis on y, where RELION and we have it on x.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import roma
import torch

from cryoloom.data.assemble import Found
from cryoloom.data.files import existing, relative_name, replacing
from cryoloom.data.findings import Finding
from cryoloom.data.npy import read_array
from cryoloom.data.particles import Particles
from cryoloom.data.stacks import locate_stacks
from cryoloom.data.unused import CRYOSPARC_TERMS, unused_terms
from cryoloom.errors import InputError
from cryoloom.physics.so3 import matrix_from_rotvec

_PLAIN = {
    "voltage_kv": "ctf/accel_kv",
    "cs_mm": "ctf/cs_mm",
    "amplitude_contrast": "ctf/amp_contrast",
    "defocus_u": "ctf/df1_A",
    "defocus_v": "ctf/df2_A",
    "b_factor": "ctf/bfactor",
}
_RADIANS = {"defocus_angle": "ctf/df_angle_rad", "phase_shift": "ctf/phase_shift_rad"}


def read_cs(path: str | Path) -> np.ndarray:
    """The records of a .cs file; raises InputError if it is not a numpy table."""
    path = existing(path, "cryoSPARC .cs file")
    records = read_array(path, "cryoSPARC .cs file", "export it again")
    if not isinstance(records, np.ndarray) or records.dtype.names is None:
        raise InputError(f"{path}: not a cryoSPARC .cs file; expected a table with named fields.")
    return records


def _fields(records: np.ndarray) -> dict[str, np.ndarray]:
    return {name: records[name] for name in records.dtype.names or ()}


def _passthroughs(source: Path, given: Path | None) -> list[Path]:
    if given is not None:
        return [existing(given, "passthrough .cs file")]
    return sorted(path for path in source.parent.glob("*passthrough*particles*.cs") if path != source)


def _join(fields: dict[str, np.ndarray], source: Path, given: Path | None) -> dict[str, np.ndarray]:
    """The fields with those that only a passthrough file has, matched by uid."""
    for path in _passthroughs(source, given):
        other = _fields(read_cs(path))
        if "uid" not in other or "uid" not in fields:
            raise InputError(f"{path}: no uid to match it with {source.name}; expected cryoSPARC's own passthrough.")
        order = np.argsort(other["uid"], kind="stable")
        places = np.searchsorted(other["uid"], fields["uid"], sorter=order).clip(max=max(len(order) - 1, 0))
        rows = order[places] if len(order) else np.zeros(0, dtype=int)
        matched = len(rows) == len(fields["uid"]) and bool((other["uid"][rows] == fields["uid"]).all())
        if not matched and given is not None:
            raise InputError(f"{path} lacks particles of {source.name} (by uid): give the passthrough of the same job.")
        if matched:
            fields = {name: column[rows] for name, column in other.items()} | fields
    return fields


def has_other_axes(symmetry: str) -> bool:
    """Whether cryoSPARC has a point group on other axes than we: Dn with odd n."""
    name = symmetry.strip().upper()
    return name[:1] == "D" and name[1:].isdigit() and int(name[1:]) % 2 == 1


def axes_turn(symmetry: str) -> np.ndarray:
    """The rotation (3, 3), x = turn · x_cryosparc, from cryoSPARC's axes of a point group to ours.

    A quarter turn about z for Dn with odd n, which takes the 2-fold axis from y to x; else the identity, as all other
    Dn have 2-fold axes on both.
    """
    return np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) if has_other_axes(symmetry) else np.eye(3)


def volume_on_cryosparcs_axes(volume: torch.Tensor, symmetry: str) -> torch.Tensor:
    """A map (D, D, D) turned, without interpolation, from our axes of a point group to cryoSPARC's."""
    if not has_other_axes(symmetry):
        return volume
    box = volume.shape[-1]
    # V'(x, y, z) = V(y, −x, z).
    minus = (2 * (box // 2) - torch.arange(box)) % box
    return volume[:, minus, :].transpose(1, 2).contiguous()


def find_cs(
    path: str | Path, datadir: str | Path | None = None, passthrough: Path | None = None, symmetry: str = "C1"
) -> Found:
    """What a .cs file and its passthrough say, poses on our axes of the molecule's symmetry.

    Raises InputError if they name no images.
    """
    source = existing(path, "cryoSPARC .cs file")
    fields = _join(_fields(read_cs(source)), source, passthrough)
    n = len(next(iter(fields.values())))
    labels = {**_PLAIN, **_RADIANS, "shift_x": "alignments3D/shift", "shift_y": "alignments3D/shift"}
    labels["image_index"] = "blob/idx, counted from 1,"
    found = Found(source, n, labels=labels)
    if n == 0:
        return found
    if not {"blob/path", "blob/idx"} <= set(fields):
        raise InputError(
            f"{source} names no images (blob/path, blob/idx): put its passthrough .cs beside it or give it as ctf."
        )
    found.columns["image_file"], found.findings = locate_stacks(_names(fields["blob/path"]), source, datadir)
    found.columns["image_index"] = fields["blob/idx"]
    found.findings += unused_terms(fields, CRYOSPARC_TERMS)
    found.columns |= {column: fields[label] for column, label in _PLAIN.items() if label in fields}
    found.columns |= {column: np.rad2deg(fields[label]) for column, label in _RADIANS.items() if label in fields}
    found.box = fields.get("blob/shape")
    found.pixel_size = fields.get("blob/psize_A")
    if "ctf/exp_group_id" in fields:
        found.columns["optics_group"] = np.unique(fields["ctf/exp_group_id"], return_inverse=True)[1] + 1
    if "location/micrograph_path" in fields:
        found.columns["micrograph_name"] = _names(fields["location/micrograph_path"])
    _find_places(found, fields)
    _find_poses(found, fields, symmetry)
    found.uid = fields.get("uid")
    found.extra = pd.DataFrame({name: fields[name] for name in ("uid", "blob/sign") if name in fields})
    return found


def _names(values: np.ndarray) -> pd.Categorical:
    unique, code = np.unique(values, return_inverse=True)
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in unique.tolist()]
    return pd.Categorical.from_codes(code, pd.Index(texts, dtype=object))


def _find_places(found: Found, fields: dict[str, np.ndarray]) -> None:
    """Where on its micrograph each particle lies, in Å, and which rows are copies of one by symmetry expansion."""
    if {"location/center_x_frac", "location/center_y_frac", "location/micrograph_shape"} <= set(fields):
        pixel = fields.get("location/micrograph_psize_A", fields.get("blob/psize_A", 1.0))
        height, width = fields["location/micrograph_shape"].astype(np.float64).T
        found.columns["coordinate_x"] = fields["location/center_x_frac"] * width * pixel
        found.columns["coordinate_y"] = fields["location/center_y_frac"] * height * pixel
    if "sym_expand/src_uid" in fields:
        found.columns["original"] = fields["sym_expand/src_uid"].astype(np.uint64).view(np.int64)


def _find_poses(found: Found, fields: dict[str, np.ndarray], symmetry: str) -> None:
    if "alignments3D/split" in fields and set(np.unique(fields["alignments3D/split"])) == {0, 1}:
        found.columns["half_set"] = fields["alignments3D/split"] + 1
    if "alignments3D/pose" not in fields:
        return
    vector = torch.from_numpy(fields["alignments3D/pose"].astype(np.float64))
    turn = axes_turn(symmetry)
    found.rotation = (matrix_from_rotvec(vector).transpose(-1, -2).numpy() @ turn.T).astype(np.float32)
    if has_other_axes(symmetry):
        text = f"poses of {found.source} are turned by 90° about z, as cryoSPARC's {symmetry} has its 2-fold axis on y"
        found.findings.append(Finding(text, False))
    if "alignments3D/shift" in fields:
        pixel = fields.get("alignments3D/psize_A", found.pixel_size)
        if pixel is None:
            raise InputError(f"{found.source}: alignments3D/shift is in pixels but no psize_A says how large they are.")
        shift = -fields["alignments3D/shift"] * np.asarray(pixel, dtype=float)[:, None]
        found.columns["shift_x"], found.columns["shift_y"] = shift[:, 0], shift[:, 1]


def write_cs(path: str | Path, particles: Particles, symmetry: str = "C1") -> None:
    """Write particles as a .cs table with blob, ctf and alignments3D groups, as far as they are known.

    symmetry: of the molecule, whose axes of cryoSPARC the poses are then on.
    """
    path, table, n = Path(path), particles.table, len(particles)
    names = _relative_names(particles, path.parent)
    uid = particles.column("uid") if "uid" in table else _uid_of_images(particles)
    columns: dict[str, Any] = {"uid": uid.astype(np.uint64)}
    columns["blob/path"] = np.char.encode(names.astype(str), "utf-8")
    columns["blob/idx"] = particles.column("image_index").astype(np.uint32)
    columns["blob/shape"] = np.full((n, 2), particles.source_box, dtype=np.uint32)
    columns["blob/psize_A"] = np.full(n, particles.source_pixel_size, dtype=np.float32)
    columns["blob/sign"] = (particles.column("blob/sign") if "blob/sign" in table else np.ones(n)).astype(np.float32)
    if particles.has_ctf:
        columns["ctf/type"] = np.full(n, b"imported")
        columns["ctf/exp_group_id"] = particles.column("optics_group").astype(np.uint32)
        columns |= {label: particles.column(name) for name, label in _PLAIN.items()}
        columns |= {label: np.deg2rad(particles.column(name)) for name, label in _RADIANS.items()}
    if particles.has_poses:
        pose = particles.poses()
        on_axes = pose.best_rotation.double() @ torch.from_numpy(axes_turn(symmetry))
        vectors = roma.rotmat_to_rotvec(on_axes.transpose(-1, -2))
        columns["alignments3D/split"] = (particles.column("half_set").clip(min=1) - 1).astype(np.uint32)
        columns["alignments3D/shift"] = (-pose.best_shift / particles.source_pixel_size).numpy()
        columns["alignments3D/pose"] = vectors.float().numpy()
        columns["alignments3D/psize_A"] = columns["blob/psize_A"]
    records = np.empty(n, dtype=[(name, value.dtype, value.shape[1:]) for name, value in columns.items()])
    for name, value in columns.items():
        records[name] = value
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, records, allow_pickle=False)


def _uid_of_images(particles: Particles) -> np.ndarray:
    """A number (N,) for each particle that depends on its image alone, so that no other particle has it."""
    stacks: Any = particles.table["image_file"].cat
    digests = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in stacks.categories]
    first = np.frombuffer(b"".join(digests), dtype=np.uint64)[stacks.codes.to_numpy()]
    repeats = particles.table.groupby(["image_file", "image_index"], sort=False, observed=True).cumcount().to_numpy()
    return first + particles.column("image_index").astype(np.uint64) + (repeats.astype(np.uint64) << np.uint64(40))


def _relative_names(particles: Particles, folder: Path) -> np.ndarray:
    files = particles.table["image_file"].cat
    names = np.array([relative_name(str(name), folder) for name in files.categories], dtype=object)
    return names[files.codes.to_numpy()]
