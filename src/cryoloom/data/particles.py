"""Particles: one table row an image, the images themselves read only when asked for."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cryoloom.data.findings import Finding
from cryoloom.data.matching import ImageNames
from cryoloom.data.mrc import read_stack
from cryoloom.data.pixels import FAULTS, faults, noise_like, replace_outliers
from cryoloom.errors import InputError
from cryoloom.physics.ctf import CTFParameters
from cryoloom.physics.fourier import resample_images
from cryoloom.physics.pose import Pose

CTF_COLUMNS = CTFParameters._fields
NAME_COLUMNS = ("image_file", "micrograph_name", "movie_id")
# What a row holds where its file says nothing: not known (NaN) for what the CTF needs, else the neutral value.
DEFAULTS: dict[str, tuple[str, Any]] = {
    "image_index": ("int32", 0),
    "optics_group": ("int32", 1),
    "voltage_kv": ("float32", np.nan),
    "cs_mm": ("float32", np.nan),
    "amplitude_contrast": ("float32", np.nan),
    "defocus_u": ("float32", np.nan),
    "defocus_v": ("float32", np.nan),
    "defocus_angle": ("float32", np.nan),
    "phase_shift": ("float32", 0),
    "b_factor": ("float32", 0),
    "half_set": ("int8", 0),
    "coordinate_x": ("float32", np.nan),
    "coordinate_y": ("float32", np.nan),
    "original": ("int64", 0),
    "frame": ("int32", 0),
    "shift_x": ("float32", 0),
    "shift_y": ("float32", 0),
}
CANONICAL = (*NAME_COLUMNS, *DEFAULTS, "source_row")
# Most images resampled or mended at once, so that memory does not follow the batch.
_AT_ONCE = 256
# Pixels that are read to notice other ones: a quarter of a second.
_HASHED_BYTES = 256 << 20
# Images that tell whether a set is noisy.
_LOOKED_AT = 100

Index = Tensor | np.ndarray | list[int] | slice | int | None


class Mended(NamedTuple):
    """Images (b, source_box, source_box) without outliers, how many pixels of each were, and its number in `FAULTS`."""

    images: Tensor
    replaced: Tensor
    fault: Tensor


@dataclass(frozen=True)
class Particles:
    """N particle images with their CTF and poses: a table, and images that stay on disk until they are read.

    table: one row a particle with the columns `CANONICAL` (Å, degrees, kV, mm, Å²; image_index, frame and source_row
    from 0; half_set 1, 2 or 0 for none; coordinates on the micrograph, NaN where not known; original, a number that
    copies of one particle share, 0 for none) and whatever else the file said under the file's own names. source: the
    file. source_box and source_pixel_size (Å): the images on disk. box and pixel_size: the images as read,
    Fourier-resampled where they differ. rotation: (N, 3, 3) float32, NaN where the pose is not known, or None without
    poses. optics: the file's own optics table. findings: what its reader found worth saying. pose_file: where poses are
    from that the source does not hold.
    """

    table: pd.DataFrame
    source: Path
    source_box: int
    source_pixel_size: float
    box: int
    rotation: np.ndarray | None = None
    optics: pd.DataFrame | None = None
    findings: tuple[Finding, ...] = ()
    pose_file: Path | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def pixel_size(self) -> float:
        """Å per pixel at the working box."""
        return self.source_pixel_size * self.source_box / self.box if self.box else self.source_pixel_size

    @property
    def has_ctf(self) -> bool:
        """Whether every particle has a CTF."""
        return len(self) > 0 and bool(np.isfinite(self.column("defocus_u")).all())

    @property
    def has_poses(self) -> bool:
        """Whether particles have rotations."""
        return self.rotation is not None

    @cached_property
    def has_images(self) -> bool:
        """Whether every stack that the table names exists."""
        return not self.missing_files()

    def column(self, name: str) -> np.ndarray:
        """Values (N,) of a column of the table."""
        return np.asarray(self.table[name])

    def files(self) -> list[str]:
        """Stacks that the table names, each once."""
        names = self.table["image_file"].cat
        return [str(names.categories[code]) for code in np.unique(names.codes)]

    def missing_files(self) -> list[str]:
        """Stacks that the table names and that do not exist."""
        return [name for name in self.files() if not os.path.isfile(name)]

    def rows(self, index: Index = None) -> np.ndarray:
        """Row numbers (b,) of an index: integers, a slice, a mask (N,), or None for all."""
        if isinstance(index, Tensor):
            index = index.detach().cpu().numpy()
        everything = np.arange(len(self))
        return everything if index is None else np.atleast_1d(everything[index])

    def images(self, index: Index = None) -> Tensor:
        """Images (b, box, box), float32, grey values as on disk, resampled to the working box; InputError if lost."""
        rows = self.rows(index)
        return self._resampled(self._stored(rows))

    def clean_images(self, index: Index = None) -> tuple[Tensor, Tensor]:
        """Images (b, box, box) as methods read them, outliers replaced first; and how many pixels (b,) these were.

        Raises InputError naming file and row where an image cannot be used.
        """
        rows = self.rows(index)
        parts = [self.mended(part) for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))]
        fault = torch.cat([part.fault for part in parts])
        if bool(fault.any()):
            first = int(torch.nonzero(fault)[0, 0])
            raise InputError(self.fault_text(int(rows[first]), int(fault[first])))
        images = torch.cat([self._resampled_about_mean(part.images) for part in parts])
        return images, torch.cat([part.replaced for part in parts])

    def _resampled_about_mean(self, images: Tensor) -> Tensor:
        if self.box == self.source_box or not self.noisy:
            return self._resampled(images)
        # A large mean would leave its rounding errors in every coefficient.
        mean = images.mean((1, 2), keepdim=True, dtype=torch.float64).float()
        return self._resampled(images - mean) + mean

    def mended(self, index: Index = None) -> Mended:
        """Images at the box on disk, whether they can be used or not; of a set without noise all pixels are kept."""
        images = self._stored(self.rows(index))
        if not self.noisy:
            return Mended(images, torch.zeros(len(images), dtype=torch.long), faults(images))
        images, replaced = replace_outliers(images)
        return Mended(images, replaced, faults(images))

    @cached_property
    def noisy(self) -> bool:
        """Whether most of a hundred images are noise everywhere, so that single bright pixels are outliers."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(_LOOKED_AT, len(self))).round().astype(int))
        like = [noise_like(self._stored(part)) for part in np.array_split(rows, 4) if len(part)]
        return bool(torch.cat(like).double().mean() > 0.5)

    def fault_text(self, row: int, fault: int) -> str:
        """The sentence that refuses the image of a row for `FAULTS[fault]`."""
        entry = self.table.iloc[row]
        return (
            f"{self.source}, particle {entry['source_row'] + 1}: image {entry['image_index'] + 1} of "
            f"{entry['image_file']} {FAULTS[fault]}: remove that particle, or leave all such images out with "
            "`cryoloom reconstruct --skip-bad-images`."
        )

    def _stored(self, rows: np.ndarray) -> Tensor:
        """Images (b, source_box, source_box), float32, at some rows (b,)."""
        codes = self.table["image_file"].cat.codes.to_numpy()[rows]
        within = self.column("image_index")[rows]
        out = np.empty((len(rows), self.source_box, self.source_box), dtype=np.float32)
        # Each file once and front to back: the disk reads ahead.
        order = np.lexsort((within, codes))
        for group in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            if len(group):
                out[group] = self._read(int(rows[group[0]]), within[group])
        return torch.from_numpy(out)

    def _resampled(self, images: Tensor) -> Tensor:
        if self.box == self.source_box:
            return images
        parts = [resample_images(part, self.box) for part in images.split(_AT_ONCE)]
        return torch.cat(parts) if len(images) else images.new_zeros(0, self.box, self.box)

    def _read(self, row: int, indices: np.ndarray) -> np.ndarray:
        name = str(self.table["image_file"].iat[row])
        place = f"{self.source}, particle {int(self.table['source_row'].iat[row]) + 1}"
        if not os.path.isfile(name):
            raise InputError(f"{place}: the image stack {name} does not exist; give the stacks' folder as datadir.")
        stack = read_stack(name)
        if len(stack) <= indices.max():
            raise InputError(f"{place}: image {indices.max() + 1} was asked for, but {name} holds {len(stack)} images.")
        if stack.shape[1:] != (self.source_box, self.source_box):
            shape = f"{stack.shape[1]}x{stack.shape[2]}"
            raise InputError(f"{place}: {name} holds images of {shape}; expected {self.source_box}x{self.source_box}.")
        return stack.read(indices)

    def ctf(self, index: Index = None) -> CTFParameters:
        """CTF parameters, each (b,); raises InputError naming the file where there are none."""
        if not self.has_ctf:
            raise InputError(f"{self.source} has no CTF (defocus) for its particles: give a file with CTF columns.")
        rows = self.rows(index)
        return CTFParameters(*(torch.from_numpy(self.column(name)[rows]) for name in CTF_COLUMNS))

    def poses(self, index: Index = None) -> Pose:
        """Poses (b, 1, 3, 3), (b, 1, 2) in Å; raises InputError naming the file where there are none."""
        if self.rotation is None:
            raise InputError(f"{self.source} has no poses (rlnAngleRot … or alignments3D): give a file with poses.")
        rows = self.rows(index)
        unknown = np.flatnonzero(np.isnan(self.rotation[rows, 0, 0]))
        if len(unknown):
            row = int(rows[unknown[0]])
            raise InputError(
                f"{self.pose_file} has no pose for {len(unknown):,} of {len(rows):,} particles of {self.source}, first "
                f"particle {int(self.column('source_row')[row]) + 1}, {self.image_names.text(row)}: give poses of all."
            )
        shift = self.table[["shift_x", "shift_y"]].to_numpy(dtype=np.float32)[rows]
        return Pose.single(torch.from_numpy(self.rotation[rows]), torch.from_numpy(shift))

    def subset(self, index: Index) -> "Particles":
        """The particles at `index`, in its order; their `source_row` still says where they came from."""
        rows = self.rows(index)
        rotation = None if self.rotation is None else self.rotation[rows]
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True), rotation=rotation)

    def with_poses(self, pose: Pose | None) -> "Particles":
        """The same particles at the best hypotheses of `pose` (N, K, …), or without poses."""
        if pose is None:
            return replace(self.with_columns(shift_x=np.float32(0), shift_y=np.float32(0)), rotation=None)
        rotation = pose.best_rotation.detach().cpu().numpy().astype(np.float32)
        shift = pose.best_shift.detach().cpu().numpy().astype(np.float32)
        if len(rotation) != len(self):
            raise ValueError(f"expected {len(self)} poses, got {len(rotation)}")
        return replace(self.with_columns(shift_x=shift[:, 0], shift_y=shift[:, 1]), rotation=rotation)

    def with_columns(self, **columns: Any) -> "Particles":
        """The same particles with columns (N,) added or replaced."""
        plain = {k: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for k, v in columns.items()}
        for name in set(plain) & set(NAME_COLUMNS):
            plain[name] = pd.Categorical(np.broadcast_to(np.asarray(plain[name], dtype=object), len(self)))
        for name in set(plain) & set(DEFAULTS):
            plain[name] = np.broadcast_to(np.asarray(plain[name], dtype=DEFAULTS[name][0]), len(self))
        return replace(self, table=self.table.assign(**plain))

    def with_box(self, box: int) -> "Particles":
        """The same particles, images resampled to `box`² when read; the field of view stays. Raises InputError."""
        if box < 2 or box % 2:
            raise InputError(f"box {box} cannot be used for {self.source}: expected an even number of at least 2.")
        return replace(self, box=box)

    @property
    def image_names(self) -> ImageNames:
        """What names each image wherever its stack lies: the stack and the number in it."""
        uid = self.column("uid") if "uid" in self.table else None
        stacks: Any = self.table["image_file"].array
        return ImageNames(self.source, stacks, self.column("image_index"), uid)

    @property
    def has_movies(self) -> bool:
        """Whether every particle belongs to a movie."""
        return len(self) > 0 and not bool(np.asarray(self.table["movie_id"] == "").any())

    def movies(self) -> dict[str, np.ndarray]:
        """Rows of each movie in the order of its frames; raises InputError where particles belong to no movie."""
        if not self.has_movies:
            raise InputError(f"{self.source} has no movies: expected a movie_id column for every particle.")
        order = np.argsort(self.table["frame"].to_numpy(), kind="stable")
        movie = self.table["movie_id"].cat
        codes = movie.codes.to_numpy()[order]
        return {str(movie.categories[code]): order[codes == code] for code in np.unique(codes)}

    def fingerprint(self) -> str:
        """SHA-256 over table, poses, sizes of the stacks, and pixels: of all images, or of an even sample of many."""
        digest = hashlib.sha256(f"{self.source_box} {self.box} {self.source_pixel_size:.6g}".encode())
        for name in self.table.columns.drop(["image_file"]):
            digest.update(str(name).encode())
            values: Any = self.table[name]
            if isinstance(values.dtype, pd.CategoricalDtype):
                digest.update("\n".join(map(str, values.cat.categories)).encode())
                values = values.cat.codes
            plain = np.asarray(values)
            digest.update(repr(plain.tolist()).encode() if plain.dtype == object else np.ascontiguousarray(plain).data)
        if self.rotation is not None:
            digest.update(np.ascontiguousarray(self.rotation).tobytes())
        for name in self.files():
            path = Path(name)
            digest.update(f"{path.name} {path.stat().st_size if os.path.isfile(path) else -1}".encode())
        for rows in self._hashed_rows():
            digest.update(self._stored(rows).numpy().tobytes())
        return digest.hexdigest()

    def _hashed_rows(self) -> list[np.ndarray]:
        """Rows whose pixels count in the fingerprint, some at once."""
        if not self.has_images or not len(self):
            return []
        many = max(_HASHED_BYTES // (4 * self.source_box**2), 1)
        rows = np.unique(np.linspace(0, len(self) - 1, min(many, len(self))).round().astype(int))
        return np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
