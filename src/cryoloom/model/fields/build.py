"""A field from its settings: the one list of what there is."""

from collections.abc import Callable

import torch

from cryoloom.errors import InputError
from cryoloom.model.fields.density import DensityField
from cryoloom.model.fields.field import Field
from cryoloom.model.fields.grid import FeatureGrid
from cryoloom.model.fields.hashgrid import build_grid
from cryoloom.model.fields.mlp import PositionalMLP
from cryoloom.model.fields.network import FieldNetwork, NetworkField
from cryoloom.model.fields.settings import FieldSettings, TransformerSettings
from cryoloom.model.fields.siren import FourierNet, Siren
from cryoloom.model.fields.transformer import QueryTransformer
from cryoloom.model.fields.voxels import VoxelField

RADIUS = 0.45


def build_field(
    settings: FieldSettings, box: int, generator: torch.Generator, z_dim: int = 0, radius: float | None = None
) -> Field:
    """The field that `settings` name, with random weights; radius: of a density, in pixels, else `RADIUS` of the box.

    Raises InputError for voxels that are to depend on z.
    """
    network = settings.network
    if settings.field == "cryoformer":
        return _cryoformer(settings.transformer, box, generator, z_dim, RADIUS * box if radius is None else radius)
    if settings.field == "voxels":
        if z_dim:
            raise InputError(
                "--field voxels holds one volume, not one for every z: choose mlp, grid, siren or fouriernet."
            )
        return VoxelField(box, generator)
    networks: dict[str, Callable[[], FieldNetwork]] = {
        "mlp": lambda: PositionalMLP(box, z_dim, network, generator),
        "siren": lambda: Siren(network.width, network.blocks, network.omega, z_dim),
        "fouriernet": lambda: FourierNet(network, z_dim),
        "grid": lambda: FeatureGrid(box, z_dim, network, generator),
    }
    return NetworkField(box, networks[settings.field](), generator)


def _cryoformer(
    settings: TransformerSettings, box: int, generator: torch.Generator, z_dim: int, radius: float
) -> Field:
    outputs = 1 if settings.domain == "real" else 2
    network = QueryTransformer(build_grid(settings, box), settings, z_dim, outputs)
    if settings.domain == "real":
        return DensityField(box, network, radius, generator)
    return NetworkField(box, network, generator)
