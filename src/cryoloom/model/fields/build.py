"""A field from its settings: the one list of what there is."""

from collections.abc import Callable

import torch

from cryoloom.errors import InputError
from cryoloom.model.fields.field import Field
from cryoloom.model.fields.grid import FeatureGrid
from cryoloom.model.fields.mlp import PositionalMLP
from cryoloom.model.fields.network import FieldNetwork, NetworkField
from cryoloom.model.fields.settings import FieldSettings
from cryoloom.model.fields.siren import FourierNet, Siren
from cryoloom.model.fields.voxels import VoxelField


def build_field(settings: FieldSettings, box: int, generator: torch.Generator, z_dim: int = 0) -> Field:
    """The field that `settings` name, with random weights. Raises InputError for voxels that are to depend on z."""
    network = settings.network
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
