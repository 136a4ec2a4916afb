"""Fits in which a network reads the pose off each image: CryoPoseNet, cryoAI and pose-VAE differ in settings only."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import nn

from cryoloom.model.encoders import Encoder, EncoderSettings
from cryoloom.model.poses.heads import HeadName
from cryoloom.model.poses.regressor import PoseRegressor
from cryoloom.model.poses.search import SearchSettings
from cryoloom.model.poses.widths import PoseWidths
from cryoloom.physics.pose import Pose
from cryoloom.solve.em.refine import RefineSettings
from cryoloom.solve.gradual import GradualSettings, at_known, slowed, together
from cryoloom.solve.hybrid import refine_from
from cryoloom.solve.march import MarchSettings, march
from cryoloom.solve.setup import NeuralSettings, Setup
from cryoloom.solve.stages import Stage

# Views need telling apart for as long as the volume looks right from one side only; later the images decide alone.
FADE = 0.7
# Without a field to train large batches are read faster, and learned from at twice the rate.
_READ_IN_A_PASS, _READ_AT_ONCE = 5000, 128


class ReadingSettings(NeuralSettings):
    """What reads poses off the images, and how it is kept from reading all the same."""

    encoder: EncoderSettings = EncoderSettings()
    encoder_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the encoder and its heads, by Adam.")
    pose_head: HeadName = Field(
        default="s2s2", description="How numbers become a rotation: s2s2 (two vectors), quaternion or euler (ZYZ)."
    )
    hypotheses: int = Field(
        default=1,
        gt=0,
        description="Poses read off each view of an image, of which the best one counts; 1 in the papers, in noise 8.",
    )
    symmetric_loss: bool = Field(
        default=True, description="Read each image turned by half a turn, too, and let the better of both count."
    )
    spread: float = Field(
        default=1.0,
        ge=0,
        description="Weight of what the views of a batch lack to be spread evenly, fading over most of the passes; "
        "0 in the papers.",
    )
    rehearsal: float = Field(
        default=1.0,
        ge=0,
        description="Weight of poses said of the volume's own projections, whose poses are known; 0 in the papers.",
    )
    shifts: Literal["predicted", "given"] = Field(
        default="predicted", description="Shifts read off the images, or those of --poses kept (none: centred images)."
    )
    pose_kl: float | None = Field(
        default=None,
        ge=0,
        description="Each pose is drawn from a Gaussian whose widths are read, too; weight of its KL divergence to "
        "poses all alike, 0 in the paper of tempor. none: poses without widths.",
    )

    @property
    def reading_rates(self) -> dict[str, float]:
        """Learning rates of the parts that read poses."""
        return dict.fromkeys(("encoder", "poses", *(() if self.pose_kl is None else ("widths",))), self.encoder_rate)


class AmortisedSettings(ReadingSettings):
    """Settings of systems whose poses a network reads off the images."""

    searches: int = Field(
        default=0,
        ge=0,
        description="Searches of some hundred images each, as cryodrgn2 does them, for a volume to begin with; 0 in "
        "the papers.",
    )
    readings: int = Field(
        default=800_000,
        gt=0,
        description="Projections of the volume that searches have found, off which the network first learns to read.",
    )
    train: GradualSettings = GradualSettings()
    polish: bool = Field(
        default=False, description="Refine the network's poses as loom does, with half-maps and uncertainties."
    )
    refinement: RefineSettings = RefineSettings()


def amortised_parts(
    setup: Setup, settings: ReadingSettings, poses: Pose | None, z_dim: int = 0
) -> dict[str, nn.Module]:
    """Field of z, encoder, pose heads and perhaps widths; shifts are those of `poses` where the settings say so."""
    field = setup.field(z_dim)
    given = poses.best_shift.float() if poses is not None and settings.shifts == "given" else None
    encoder = Encoder(settings.encoder, 2 if settings.symmetric_loss else 1, setup.beginning)
    limit = setup.shift_angst if settings.shifts == "predicted" else 0.0
    heads = PoseRegressor(
        encoder.features, settings.pose_head, limit, setup.beginning, settings.hypotheses, given, settings.spread
    )
    parts: dict[str, nn.Module] = {"field": field, "encoder": encoder, "poses": heads}
    if settings.pose_kl is not None:
        parts["widths"] = PoseWidths(encoder.features, limit, settings.pose_kl, setup.beginning)
    return parts


def read_together(
    settings: ReadingSettings, train: GradualSettings, rates: Mapping[str, float], box: int
) -> list[Stage]:
    """The passes in which the field and the parts in `rates` learn at poses that are read, and the last reading.

    The field's own projections are read beside the images, and the price on uneven views fades.
    """
    return [replace(stage, rehearsal=settings.rehearsal) for stage in together(train, rates, box, FADE)]


def searched_first(settings: AmortisedSettings, first: Stage, images: int, box: int) -> list[Stage]:
    """The stages that search poses for a volume to begin with; then the network learns to read them off its slices."""
    at_once = min(_READ_IN_A_PASS, images)
    rounds = MarchSettings(rounds=settings.searches, learning_rate=settings.train.learning_rate)
    found = [stage for stage in march(rounds, SearchSettings(), box) if stage.name in ("pretrain", "march")]
    passes = max(1, settings.readings // at_once)
    read = replace(first, name="reading", poses="rehearsed", train=("encoder", "poses"))
    read = replace(read, images=at_once, batch_size=_READ_AT_ONCE)
    return [*found, *(slowed(read, read.rates, 1 + math.cos(math.pi * i / passes)) for i in range(passes))]


def fit_amortised(setup: Setup, settings: AmortisedSettings, poses: Pose | None) -> None:
    """Fit field and network together; at `poses`, where given with their rotations to keep, the field alone."""
    if poses is not None and settings.shifts == "predicted":
        setup.fit({"field": setup.field()}, at_known(settings.train, setup.images.box), poses)
        return
    stages = read_together(settings, settings.train, settings.reading_rates, setup.images.box)
    if settings.searches:
        stages = [*searched_first(settings, stages[0], len(setup.images), setup.images.box), *stages]
    fitted = setup.fit(amortised_parts(setup, settings, poses), stages, poses)
    if settings.polish:
        setup.session.keep("fit", "parts", "optimisers")
        refine_from(setup, settings.refinement, fitted.state.poses)
