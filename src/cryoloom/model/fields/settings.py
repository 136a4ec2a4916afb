"""Which field a system fits, and the size of its network."""

from typing import Literal

from pydantic import BaseModel, Field

FieldName = Literal["mlp", "siren", "fouriernet", "grid", "voxels"]
Encoding = Literal["gaussian", "geometric"]


class NetworkSettings(BaseModel, extra="forbid"):
    """The network of a field: its size and how frequencies enter it."""

    width: int = Field(default=256, gt=0, description="Units of each layer of the network.")
    blocks: int = Field(default=3, gt=0, description="Layers between the first and the last layer.")
    encoding: Encoding = Field(
        default="gaussian",
        description="Fourier features of mlp: gaussian (random directions) or geometric (along the axes).",
    )
    feature_sigma: float = Field(
        default=0.5, gt=0, description="Spread of the Gaussian features, in halves of the box per unit frequency."
    )
    channels: int = Field(default=6, gt=1, description="Maps of grid that are mixed, where the volume depends on z.")
    omega: float = Field(default=30.0, gt=0, description="Factor of the phase in the sine layers of siren, fouriernet.")


class FieldSettings(BaseModel, extra="forbid"):
    """The choice of a field; systems inherit it, with a default of their own."""

    field: FieldName = Field(
        default="mlp",
        description="Volume in Fourier space as a network (mlp, siren, fouriernet) or a feature grid (grid), "
        "or voxels in real space (voxels).",
    )
    network: NetworkSettings = NetworkSettings()
