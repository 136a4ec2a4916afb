"""CryoFormer: poses known or corrected on the way, a deformation feature an image, density in space (the recipe)."""

from pydantic import Field
from torch import nn

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.conformation.feature import DeformationEncoder
from cryoloom.model.encoders import EncoderSettings
from cryoloom.model.fields.settings import FieldName
from cryoloom.model.poses.orientation import OrientationEncoder
from cryoloom.physics.pose import Pose
from cryoloom.solve.conformed import Z_START, ZStart, mean_first, taught
from cryoloom.solve.correction import CorrectionSettings, corrected
from cryoloom.solve.flexible import write_flexible
from cryoloom.solve.gradual import GradualSettings, at_known, together, towards_given
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import NeuralSettings, Setup
from cryoloom.solve.team import Team

SUMMARY = "density in real space by a query transformer, poses known or corrected (--refine), flexible regions"
PAPER = "Liu et al., ECCV 2024"
# Ten layers of 128 units, on images of a box that even the first band fills.
ENCODER = EncoderSettings(network="mlp", box=16, width=16, layers=8, features=128)


class CryoFormerSettings(NeuralSettings):
    """Settings of cryoformer."""

    field: FieldName = Field(default="cryoformer", description="The volume: cryoformer, or mlp, siren, fouriernet.")
    z_dim: int = Field(default=8, gt=0, description="Numbers of each particle's deformation feature.")
    z_start: ZStart = Field(default="components", description=Z_START + " With the orientation encoder: none.")
    encoder: EncoderSettings = ENCODER
    encoder_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the deformation encoder, by Adam.")
    orientation: EncoderSettings = ENCODER
    pose_rate: float = Field(default=1e-3, gt=0, description="Learning rate of the orientation encoder, by Adam.")
    pose_weight: float = Field(
        default=1.0, ge=0, description="Weight of what straying from the given poses costs, in nats an image."
    )
    pose_passes: int = Field(
        default=5, ge=0, description="Passes in which the orientation encoder learns the given poses, before any image."
    )
    correction: CorrectionSettings = CorrectionSettings()
    # A grid of features takes large steps: at a third of this rate a moving domain takes twice as many passes to show.
    train: GradualSettings = GradualSettings(passes=20, first_band=64, last_band=64, learning_rate=3e-3)


def reconstruct(
    particles: Particles, poses: Pose | None, settings: CryoFormerSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Volume, deformation features and flexible regions of a particle set. Raises InputError without poses."""
    if poses is None:
        raise InputError("cryoformer needs poses: add --poses known, --poses FILE or --init RUN, coarse ones --refine.")
    setup, s = Setup(particles, settings, run, team, progress), settings
    box, rates = setup.images.box, {"conformation": s.encoder_rate}
    parts: dict[str, nn.Module] = {"field": setup.field(s.z_dim)}
    parts["conformation"] = DeformationEncoder(s.encoder, s.z_dim, setup.beginning)
    stages = at_known(s.train, box, rates)
    if s.z_start == "components":
        stages = [mean_first(s.train, box), *taught(s.train, box, stages)]
    if run.config.refine and s.correction.rounds:
        stages = [*corrected(s.correction, s.train, box), *stages]
    elif run.config.refine:
        given = Pose.single(poses.best_rotation.float(), poses.best_shift.float())
        parts["poses"] = OrientationEncoder(s.orientation, given, setup.shift_angst, s.pose_weight, setup.beginning)
        stages = towards_given(s.train, s.pose_passes, s.pose_rate, box)
        stages += together(s.train, rates | {"poses": s.pose_rate}, box)
    fitted = setup.fit(parts, stages, poses)
    if fitted.latents is not None and team.leads:
        write_flexible(run, fitted.model.field, fitted.latents.mean, setup.images.pixel_size)
