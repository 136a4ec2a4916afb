"""cryoDRGN2, homogeneous: a positional MLP whose poses are searched, and reused between searches (the recipe)."""

from cryoloom.data.particles import Particles
from cryoloom.model.poses.search import SearchSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.march import MarchSettings, at_poses, march
from cryoloom.solve.run import Run
from cryoloom.solve.session import Progress
from cryoloom.solve.setup import NeuralSettings, Setup
from cryoloom.solve.team import Team

SUMMARY = "a positional MLP in Fourier space, poses by hierarchical search and reused between searches"
PAPER = "Zhong et al., ICCV 2021"


class Cryodrgn2Settings(NeuralSettings):
    """Settings of cryodrgn2."""

    search: SearchSettings = SearchSettings()
    march: MarchSettings = MarchSettings()


def reconstruct(
    particles: Particles, poses: Pose | None, settings: Cryodrgn2Settings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory; `poses` that are given are kept, or only refined."""
    setup = Setup(particles, settings, run, team, progress)
    if poses is None:
        stages = march(settings.march, settings.search, setup.images.box)
    else:
        stages = at_poses(settings.march, setup.images.box, run.config.refine)
    setup.fit({"field": setup.field()}, stages, poses)
