"""Which field a system fits, and the size of its network."""

from typing import Literal

from pydantic import BaseModel, Field

FieldName = Literal["mlp", "siren", "fouriernet", "grid", "voxels", "cryoformer"]
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
    shell_scale: bool = Field(
        default=True, description="Multiply what the network says, shell by shell, by the size of the images' signal."
    )
    channels: int = Field(default=6, gt=1, description="Maps of grid that are mixed, where the volume depends on z.")
    omega: float = Field(default=30.0, gt=0, description="Factor of the phase in the sine layers of siren, fouriernet.")


class TransformerSettings(BaseModel, extra="forbid"):
    """The field of CryoFormer: a grid of features, and structure queries of blocks of space that read it."""

    domain: Literal["real", "fourier"] = Field(
        default="real", description="What the network says: density in space, or the volume's transform."
    )
    grid: Literal["hash", "dense", "triplane"] = Field(
        default="hash", description="Features of places: hash (many resolutions), dense, or triplane."
    )
    levels: int = Field(default=16, gt=0, description="Resolutions of the hash grid.")
    features: int = Field(default=2, gt=0, description="Features of each level; dense, triplane: levels x features.")
    log_table: int = Field(default=15, gt=3, lt=25, description="Rows of a level's hash table, as a power of two.")
    base: int = Field(default=16, gt=1, description="Cells of the coarsest level along an axis.")
    queries: int = Field(default=8, gt=0, description="Blocks along an axis; one structure query for each block.")
    channels: int = Field(default=8, gt=0, description="Numbers of a structure query.")
    blocks: int = Field(default=3, gt=0, description="Deformation-aware blocks.")
    deformation: Literal["attention", "concatenation"] = Field(
        default="attention", description="How conformations reach the queries: by deformation-aware blocks, or a layer."
    )
    region: Literal["attention", "concatenation"] = Field(
        default="attention", description="How queries read features: by region-wise cross-attention, or a layer."
    )


class FieldSettings(BaseModel, extra="forbid"):
    """The choice of a field; systems inherit it, with a default of their own."""

    field: FieldName = Field(
        default="mlp",
        description="Volume in Fourier space as a network (mlp, siren, fouriernet) or a feature grid (grid), voxels in "
        "real space (voxels), or a transformer's density (cryoformer).",
    )
    network: NetworkSettings = NetworkSettings()
    transformer: TransformerSettings = TransformerSettings()
