"""cryoDRGN2, homogeneous: a positional MLP whose poses are searched, and reused between searches (the recipe)."""

from cryoloom.data.particles import Particles
from cryoloom.model.fields.mlp import MLPField, MLPSettings
from cryoloom.model.poses.search import SearchSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.amplitude import signal_amplitude
from cryoloom.solve.fit import ComputeSettings, Fit
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.march import MarchSettings, at_poses, march
from cryoloom.solve.results import write_fit
from cryoloom.solve.run import Run
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.session import Progress, Session
from cryoloom.solve.team import Team

SUMMARY = "a positional MLP in Fourier space, poses by hierarchical search and reused between searches"
PAPER = "Zhong et al., ICCV 2021"


class Cryodrgn2Settings(ScopeSettings):
    """Settings of cryodrgn2."""

    field: MLPSettings = MLPSettings()
    search: SearchSettings = SearchSettings()
    march: MarchSettings = MarchSettings()
    compute: ComputeSettings = ComputeSettings()


def reconstruct(
    particles: Particles, poses: Pose | None, settings: Cryodrgn2Settings, run: Run, team: Team, progress: Progress
) -> None:
    """Map and poses of a particle set, into the run directory; `poses` that are given are kept, or only refined."""
    images = WorkingImages(particles, team.device)
    scope = Scope.of(settings, images, run.config.symmetry)
    if poses is None:
        stages = march(settings.march, settings.search, images.box)
    else:
        stages = at_poses(settings.march, images.box, run.config.refine)
    session = Session(run, team, progress)
    field = MLPField(images.box, settings.field, session.beginning)
    field.amplitude.copy_(signal_amplitude(images))
    fit = Fit(images, {"field": field}, stages, session, scope, settings.compute)
    state = fit.run(fit.start(poses))
    if team.leads:
        write_fit(run, particles, fit.map(), fit.mask, state.poses, settings.contrast)
