"""cryoDRGN2: a positional MLP whose poses are searched, and reused between searches, and conformations (recipe)."""

from pydantic import Field

from cryoloom.data.particles import Particles
from cryoloom.model.poses.search import SearchSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.conformed import ConformationSettings, among, at_their_conformations, conformed_parts
from cryoloom.solve.gradual import GradualSettings
from cryoloom.solve.march import MarchSettings, at_poses, march
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import Setup
from cryoloom.solve.team import Team

SUMMARY = "a positional MLP in Fourier space, poses by hierarchical search, conformations by a VAE (--z-dim)"
PAPER = "Zhong et al., ICCV 2021"


class Cryodrgn2Settings(ConformationSettings):
    """Settings of cryodrgn2."""

    z_dim: int = Field(default=0, ge=0, description="Dimensions of each particle's conformation z; 0: one volume.")
    search_rounds: int = Field(
        default=3,
        ge=0,
        description="Rounds, where there is a z and poses are not known: every particle is searched at the maps of "
        "several conformations, of linear components found at the poses of the round before.",
    )
    search: SearchSettings = SearchSettings()
    march: MarchSettings = MarchSettings()
    conform: GradualSettings = GradualSettings(passes=10, first_band=64, last_band=64, prepare_passes=2, last_rate=0.3)


def reconstruct(
    particles: Particles, poses: Pose | None, settings: Cryodrgn2Settings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory; `poses` that are given are kept, or only refined.

    With --z-dim also conformations: searched or --init poses are searched again at them, those of --poses only with
    --refine.
    """
    setup, s = Setup(particles, settings, run, team, progress), settings
    box, parts = setup.images.box, {"field": setup.field(s.z_dim)}
    if poses is None:
        stages = march(s.march, s.search, box)
    else:
        stages = [] if s.z_dim else at_poses(s.march, box, run.config.refine)
    if s.z_dim:
        moves = run.config.refine or run.config.poses is None
        steps, rounds = (s.march.polish_steps, s.search_rounds) if moves else (0, 0)
        stages += among(s, s.search, rounds, steps, box)
        stages = at_their_conformations(s, s.conform, box, stages, steps)
        parts |= conformed_parts(setup, s)
    setup.fit(parts, stages, poses)
