"""What a finished run has learned, read back from its files: the field that answers any z, and every particle's z."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from cryoloom.data.files import reading
from cryoloom.data.mrc import read_stack
from cryoloom.errors import InputError
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.field import Field
from cryoloom.model.fields.settings import FieldSettings
from cryoloom.model.poses.search import has_fast_bf16
from cryoloom.physics.fourier import resample_volume
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.latents import Latents
from cryoloom.solve.run import Run
from cryoloom.solve.warm import load_part


@dataclass(frozen=True)
class TrainedField:
    """The field of a finished run. sign: what makes its map positive; mask: (D, D, D) multiplied on; bf16: precision.

    z_dim: numbers of a conformation, 0 where the run has one volume; mean: (Z,) of all particles.
    """

    folder: Path
    field: Field
    z_dim: int
    mean: Tensor
    pixel_size: float
    sign: float
    mask: Tensor
    bf16: bool

    @property
    def box(self) -> int:
        """Voxels of a side of its maps."""
        return self.field.box

    def volume(self, z: Tensor | None = None, box: int | None = None) -> Tensor:
        """The masked, positive map (D, D, D) of a conformation z (Z,), else the mean one.

        It has `box` voxels a side where that is smaller. The field is then asked inside that box's band only.
        Raises InputError for a z of another length.
        """
        if self.z_dim:
            z = self.mean if z is None else z
            if z.shape != (self.z_dim,):
                raise InputError(
                    f"{self.folder} has conformations of z-dim {self.z_dim}, but {len(z)} numbers were given for one: "
                    f"give {self.z_dim}."
                )
        small = min(box or self.box, self.box)
        band = None if small == self.box else small / 2 - 1
        parameter = next(self.field.parameters())
        at = z.to(parameter) if self.z_dim and z is not None else None
        with torch.no_grad(), torch.autocast(parameter.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            volume = self.field.volume(band, at)
        volume = (self.sign * volume * self.mask.to(volume)).float().cpu()
        return resample_volume(volume, small)


def trained_field(folder: Path | str, device: str = "cpu") -> TrainedField:
    """The field of the finished run in `folder`, from its config.yaml and newest checkpoint.

    Raises InputError where there is no run, it is not finished, or its system trains no field.
    """
    run = Run.open(Path(folder))
    settings = run.config.settings
    own = {name: settings[name] for name in FieldSettings.model_fields if name in settings}
    if not own:
        raise InputError(
            f"{folder} is a run of {run.config.system}, which trains no field: its map is volumes/volume.mrc; "
            "conformations come from a system such as cryodrgn."
        )
    sign = next((line["sign"] for line in reversed(run.metrics()) if "sign" in line), None)
    map_path = run.path / "volumes" / "volume.mrc"
    if sign is None or not map_path.is_file():
        raise InputError(f"{folder} is not finished: `cryoloom resume {folder}` carries it on to its results.")
    stack = read_stack(map_path)
    box, pixel_size = stack.shape[-1], stack.pixel_size[0]
    z_dim = int(settings.get("z_dim", 0))
    try:
        field = build_field(FieldSettings(**own), box, torch.Generator().manual_seed(0), z_dim)
    except ValidationError as error:
        raise InputError(
            f"{folder}/config.yaml: the field's settings are not of this version: run it again."
        ) from error
    load_part(field, "field", run.path)
    field.to(device).eval().requires_grad_(False)
    diameter = settings.get("mask_diameter_angst") or 0.9 * box * pixel_size
    precision = settings.get("compute", {}).get("precision", "auto")
    bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16(torch.device(device)))
    mask = soft_sphere(box, diameter / 2 / pixel_size)
    mean = read_latents(folder).mean.mean(0) if z_dim else torch.zeros(0)
    return TrainedField(run.path, field, z_dim, mean, pixel_size, float(sign), mask, bf16)


def read_latents(folder: Path | str) -> Latents:
    """Mean and log variance (N, Z) of every particle of a run. Raises InputError for a run without conformations."""
    folder = Path(folder)
    file = folder / "latents.npz"
    if not file.is_file():
        Run.open(folder)
        raise InputError(
            f"{folder} has no latents.npz, so no conformations: reconstruct with a system that infers them, such as "
            "--system cryodrgn, and let it finish."
        )
    with reading(file, "file of latents", "run the reconstruction again"), np.load(file, allow_pickle=False) as arrays:
        mean, log_var = (torch.from_numpy(arrays[name]).float() for name in ("z_mean", "z_log_var"))
    if mean.ndim != 2 or mean.shape != log_var.shape or not bool(torch.isfinite(mean).all()):
        raise InputError(f"{file} holds z_mean {tuple(mean.shape)}; expected finite numbers (N, Z): run it again.")
    return Latents(mean, log_var)
