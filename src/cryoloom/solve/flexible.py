"""Which part of a molecule moves: maps of where the conformations that a fit has found differ."""

import torch
from torch import Tensor

from cryoloom.data.mrc import write_volume
from cryoloom.model.fields.field import Field
from cryoloom.solve.run import Run

CONFORMATIONS = 64


def write_flexible(run: Run, field: Field, z: Tensor, pixel_size: float) -> None:
    """Write volumes/flexibility.mrc and what else the field tells apart, over up to `CONFORMATIONS` of z (N, Z)."""
    rows = torch.linspace(0, len(z) - 1, min(len(z), CONFORMATIONS)).long()
    device = next(field.parameters()).device
    for name, volume in field.flexibility(z[rows].to(device)).items():
        write_volume(run.path / "volumes" / f"{name}.mrc", volume.cpu(), pixel_size)
