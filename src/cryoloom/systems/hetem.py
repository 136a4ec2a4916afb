"""HetEM: poses and conformations read off each image and its half turn by one encoder, an MLP answers (the recipe)."""

from dataclasses import replace

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.errors import InputError
from cryoloom.model.conformation.vae import VAE
from cryoloom.model.encoders import EncoderSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.amortised import ReadingSettings, amortised_parts, read_together
from cryoloom.solve.gradual import GradualSettings
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.stages import Stage
from cryoloom.solve.team import Team

SUMMARY = "poses and conformations read off the images by one encoder, symmetric loss"
PAPER = "Chen et al., arXiv 2308.04956"


class HetemSettings(ReadingSettings):
    """Settings of hetem."""

    z_dim: int = Field(default=8, gt=0, description="Dimensions of each particle's conformation z.")
    beta: float = Field(default=1.0, ge=0, description="Weight of the conformations' KL divergence, in nats an image.")
    pose_passes: int = Field(default=20, ge=0, description="Passes for poses and one volume, before conformations.")
    encoder: EncoderSettings = EncoderSettings(network="mlp")
    train: GradualSettings = GradualSettings(
        passes=36, first_band=64, last_band=64, learning_rate=1e-3, noise="white", prepare_passes=0
    )


def schedule(settings: HetemSettings, box: int) -> list[Stage]:
    """Passes for the poses of one volume, then with conformations. Raises InputError where none is left for these."""
    s = settings
    if s.pose_passes >= s.train.passes:
        raise InputError(
            f"--pose-passes {s.pose_passes} leaves none of --train.passes {s.train.passes} to conformations: "
            "make it smaller."
        )
    stages = [replace(stage, beta=s.beta) for stage in read_together(s, s.train, s.reading_rates, box)]
    alone = [replace(stage, name="poses first", z="none") for stage in stages[: s.pose_passes]]
    joint = [_joint(stage) for stage in stages[s.pose_passes : -1]]
    return [*alone, *joint, stages[-1]]


def _joint(stage: Stage) -> Stage:
    rates = {**stage.rates, "conformation": stage.rates["encoder"]}
    return replace(stage, name="joint", train=("field", *rates), rates=rates)


def reconstruct(
    particles: Particles, poses: Pose | None, settings: HetemSettings, run: Run, team: Team, progress: Progress
) -> None:
    """Map, poses and conformations of a particle set, into the run. Raises InputError where poses are given."""
    if poses is not None:
        raise InputError("hetem reads the poses itself and takes none: leave out --poses and --init, or take cryodrgn.")
    setup = Setup(particles, settings, run, team, progress)
    parts = amortised_parts(setup, settings, None, settings.z_dim)
    parts["conformation"] = VAE(settings.encoder.features, settings.z_dim, setup.beginning)
    setup.fit(parts, schedule(settings, setup.images.box), None)
