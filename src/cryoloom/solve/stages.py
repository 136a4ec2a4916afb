"""What a gradient fit does, in what order: a list of stages, each the same loop with other properties."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cryoloom.model.poses.search import SearchSettings

# random: drawn anew for every batch; stored: as they are; search, polish, infer, conformations: stored ones replaced
# before training begins, infer by what the model's own part for poses says, conformations by a search at maps of
# several of them, which linear components of the images span; model: what the model's part says in every batch; prior,
# rehearsed: the same, with nothing to learn from but that part's penalty, or the field's own projections.
Poses = Literal["random", "stored", "search", "polish", "infer", "conformations", "model", "prior", "rehearsed"]
# model: what the conformation part says; stored: drawn from the stored ones; taught: the same, while the conformation
# part learns to say them, or model where nothing is stored; settle, components: stored ones replaced before training,
# by the best at the field or by the linear components in which images differ; none: the field at z = 0.
Latents = Literal["model", "stored", "taught", "settle", "components", "none"]
# shells: what the last pass left unexplained, shell by shell; white: the same averaged over the band.
Noise = Literal["shells", "white"]


@dataclass(frozen=True)
class Stage:
    """What is trained, on which poses, up to which band, for how long.

    name: shown in progress and records; stages in a row may share one. epochs: passes over the stage's images. train:
    names of the model's parts that learn, at `lr`, or at what `rates` says for a part. band: Fourier pixels.
    coefficients: part of those in the band that a gradient step compares. images: how many are drawn for the stage,
    None for all. noise: how the squares are weighted. beta: weight of the conformations' KL; penalty: of what the part
    for poses holds against its own; rehearsal: of what it says of the field's own projections. z: which conformations
    the field sees, where there are any; representatives: at how many of them poses are found anew, polished at the
    nearest one of the field or searched at every one. reset: field and optimisers begin anew, poses are kept. map_name:
    of the map written at the end, if any. search: of the search, where poses are searched. polish_steps: Newton steps
    on what was found or stored, where poses are searched or polished.
    """

    name: str
    epochs: int
    poses: Poses
    train: tuple[str, ...]
    band: float
    batch_size: int
    lr: float
    rates: Mapping[str, float] = field(default_factory=dict)
    coefficients: float = 1.0
    images: int | None = None
    reset: bool = False
    map_name: str = ""
    search: SearchSettings | None = None
    polish_steps: int = 0
    noise: Noise = "shells"
    beta: float = 1.0
    penalty: float = 1.0
    rehearsal: float = 0.0
    z: Latents = "model"
    representatives: int = 1

    @property
    def passes(self) -> tuple[str, ...]:
        """What is done with the stage's images, pass by pass."""
        first = (self.poses,) if self.poses in ("search", "polish", "infer", "conformations") else ()
        first = ("maps", *first) if self.poses == "conformations" else first
        second = (self.z,) if self.z in ("settle", "components") else ()
        return (*first, *second, *("train",) * self.epochs)
