"""What systems with a conformation for every particle share: its settings, the part that infers it, its stages."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from cryoloom.errors import InputError
from cryoloom.model.conformation.dvae import DVAE, DynamicsSettings
from cryoloom.model.conformation.table import ConformationTable
from cryoloom.model.conformation.vae import VAE
from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.model.poses.search import SearchSettings
from cryoloom.solve.gradual import GradualSettings, at_known, prepare
from cryoloom.solve.setup import NeuralSettings, Setup
from cryoloom.solve.stages import Stage
from cryoloom.solve.warm import load_part, trained_parts

ZStart = Literal["components", "none"]
Z_START = (
    "What z the field learns at first: that of the linear components in which images differ, which the encoder learns "
    "to say, or none but what the encoder finds by itself (as in the papers)."
)


# Newton steps find the peak from here. A search at many conformations costs many times as much as one.
_ROUGH_BAND = 12.0


class LatentSettings(NeuralSettings):
    """Settings of systems whose volume depends on a latent z that an encoder reads off images."""

    z_dim: int = Field(default=8, ge=0, description="Dimensions of each particle's conformation z; 0: one volume.")
    # At weight 1 an encoder that has learnt little yet is better off saying nothing, and never recovers.
    beta: float = Field(
        default=0.2, ge=0, description="Weight of the KL divergence while conformations are learnt, in nats an image."
    )
    beta_first: float = Field(default=0.05, ge=0, description="The same in the first pass.")
    beta_passes: int | None = Field(
        default=5,
        ge=0,
        description="Passes in which it goes from the first to the full weight; none: half of those that learn "
        "conformations.",
    )
    encoder: EncoderSettings = EncoderSettings(network="mlp")
    encoder_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the encoder, by Adam.")

    @property
    def rates(self) -> dict[str, float]:
        """Learning rates of the parts that infer conformations."""
        return {"encoder": self.encoder_rate, "conformation": self.encoder_rate}

    def betas(self, passes: int) -> list[float]:
        """The KL's weight in each of some passes: from the first to the full weight in a line, then constant."""
        rising = passes // 2 if self.beta_passes is None else self.beta_passes
        first = min(self.beta_first, self.beta)
        return [first + (self.beta - first) * min(i / rising, 1.0) if rising else self.beta for i in range(passes)]


class ConformationSettings(LatentSettings):
    """Settings of systems that may begin with linear components, keep z in a table, and settle it at the end."""

    conformation: Literal["vae", "table"] = Field(
        default="vae", description="z read off the images by an encoder (vae), or learnt for each particle (table)."
    )
    z_start: ZStart = Field(default="components", description=Z_START)
    table_rate: float = Field(default=0.05, gt=0, description="Learning rate of a table of conformations, by Adam.")
    settle_rounds: int = Field(
        default=1,
        ge=0,
        description="Rounds at the end: each particle's z is searched and polished at the field, which then trains on.",
    )
    representatives: int = Field(
        default=5,
        gt=0,
        description="Conformations at whose maps poses are searched again and polished, where poses are not known.",
    )
    settle_passes: int = Field(default=2, ge=0, description="Passes of the field over all images in such a round.")

    @property
    def rates(self) -> dict[str, float]:
        """Learning rates of the parts that infer conformations."""
        return {"conformation": self.table_rate} if self.conformation == "table" else super().rates


def conformed_parts(setup: Setup, settings: ConformationSettings) -> dict[str, nn.Module]:
    """What infers conformations: a VAE over an encoder of its own, or a table. Raises InputError without a z."""
    if not settings.z_dim:
        raise InputError("--z-dim 0 leaves nothing to infer here: give 1 or more, or take a system of one volume.")
    if settings.conformation == "table":
        return {"conformation": ConformationTable(len(setup.images), settings.z_dim, setup.beginning)}
    encoder = Encoder(settings.encoder, 1, setup.beginning)
    return {"encoder": encoder, "conformation": VAE(encoder.features, settings.z_dim, setup.beginning)}


def filmed_parts(
    setup: Setup,
    settings: LatentSettings,
    dynamics: DynamicsSettings,
    movies: tuple[Tensor, Tensor],
    begun: dict[str, nn.Module] | None = None,
) -> dict[str, nn.Module]:
    """A field of z and an encoder, or what is `begun` of them, and a DVAE over the features of movies.

    movies: of each particle movie and frame (N,).
    """
    parts = begun or {"field": setup.field(settings.z_dim), "encoder": Encoder(settings.encoder, 1, setup.beginning)}
    encoder = parts["encoder"]
    assert isinstance(encoder, Encoder)
    return {**parts, "conformation": DVAE(encoder.features, settings.z_dim, dynamics, movies, setup.beginning)}


def begin_as_vae(parts: dict[str, nn.Module], folder: Path) -> bool:
    """Give parts of `filmed_parts` what the run in `folder` learned frame by frame; False where it learned no z at all.

    Raises InputError where its networks are of other shapes, or none reads poses for the part that would.
    """
    trained = trained_parts(folder)
    if "conformation" not in trained:
        return False
    dvae = parts["conformation"]
    assert isinstance(dvae, DVAE)
    for name, part in {**parts, "conformation": dvae.frames}.items():
        # How well poses are known may be asked of a run that has not said it.
        if name in trained or name != "widths":
            load_part(part, name, folder)
    return True


def among(
    settings: ConformationSettings, search: SearchSettings, rounds: int, polish_steps: int, box: int
) -> list[Stage]:
    """Rounds that search every particle at maps of several conformations, made at the poses of the round before."""
    band = box / 2 - 1
    rough = {"first_band": min(search.first_band, _ROUGH_BAND, band), "last_band": min(_ROUGH_BAND, band)}
    search = search.model_copy(update={**rough, "subdivisions": 1})
    moved: dict[str, Any] = {"polish_steps": polish_steps, "representatives": settings.representatives}
    return [Stage("conformations", 0, "conformations", (), band, 1, 0.0, z="none", search=search, **moved)] * rounds


def settling(settings: ConformationSettings, train: GradualSettings, box: int, polish_steps: int = 0) -> list[Stage]:
    """The rounds at the end: conformations settled at the field, which trains on with them; settled once more.

    Here the KL has its own weight, 1: what is settled is the posterior. With `polish_steps` the poses are polished
    first, each at the field's map of a conformation near the particle's.
    """
    band = min(train.last_band, box / 2 - 1)
    given = (band, train.batch_size, train.learning_rate * train.last_rate)
    more: dict[str, Any] = {"z": "settle", "noise": train.noise}
    moved: dict[str, Any] = {"polish_steps": polish_steps, "representatives": settings.representatives}
    poses, moved = ("polish", moved) if polish_steps else ("stored", {})
    rounds = [
        Stage("settle", settings.settle_passes, poses, ("field",), *given, **more, **moved)
        for _ in range(settings.settle_rounds)
    ]
    return [*rounds, Stage("latents", 0, "stored", (), *given, **more)] if rounds else []


def learning(settings: ConformationSettings, train: GradualSettings, box: int) -> list[Stage]:
    """The passes that learn conformations at stored poses, after those that prepare the volume at z = 0."""
    passes = at_known(train, box, settings.rates, settings.betas(train.passes))
    return [mean_first(train, box), *(taught(train, box, passes) if settings.z_start == "components" else passes)]


def mean_first(train: GradualSettings, box: int) -> Stage:
    """The stage that trains the field at z = 0 before any z is learnt."""
    # While the mean is not known, z is taken for what differs most between images: how they are turned.
    return replace(prepare(train, "stored", box), z="none")


def taught(train: GradualSettings, box: int, passes: list[Stage]) -> list[Stage]:
    """Passes at known poses that learn the z of linear components, found before them, instead of their own."""
    band = min(train.last_band, box / 2 - 1)
    found = Stage("components", 0, "stored", (), band, train.batch_size, 0.0, z="components")
    return [found, *(replace(stage, z="taught") for stage in passes)]


def at_their_conformations(
    settings: ConformationSettings, train: GradualSettings, box: int, before: list[Stage], polish_steps: int
) -> list[Stage]:
    """The stages `before` that find poses; then conformations are learnt at these, and poses polished at those."""
    alone = [replace(stage, z="none") for stage in before]
    return [*alone, *learning(settings, train, box), *settling(settings, train, box, polish_steps)]
