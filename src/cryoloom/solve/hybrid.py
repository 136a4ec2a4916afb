"""loom's refinement from the poses that a network has read: an encoder's speed with a search's accuracy."""

import shutil

from cryoloom.data import write_star
from cryoloom.data.files import replacing
from cryoloom.data.half_sets import half_sets
from cryoloom.physics.pose import Pose
from cryoloom.solve.em.finish import write_refined
from cryoloom.solve.em.known import start_from_poses
from cryoloom.solve.em.refine import Refinement, RefineSettings, RefineState
from cryoloom.solve.em.stages import run_refinement
from cryoloom.solve.setup import Setup

# Resolution elements across the molecule up to which a map at a network's poses is believed.
_TRUSTED_CYCLES = 7.0


def refine_from(setup: Setup, settings: RefineSettings, poses: Pose) -> None:
    """Refine from `poses` with half-sets, searching everywhere at the beginning and at the end, and write the results.

    The first searches give a way out to poses that the network had misread: at −10 dB local steps alone ended half as
    far again from the truth. What the network alone had found is kept in the run's folder network/.
    """
    session, scope, images = setup.session, setup.scope, setup.images
    if session.team.leads:
        _keep_network(setup, poses)
    halves = half_sets(setup.particles, session.run.config.seed)
    refinement = Refinement(images, settings, scope, halves, session.team)
    state = session.saved("refine", RefineState)
    if state is None:
        known = start_from_poses(refinement, poses)
        # One network read the poses of both halves: what these agree on beyond its first shells may be its errors.
        band = scope.band(_TRUSTED_CYCLES, images.box)
        state = refinement.start((known.volume, known.volume), known.noise, band, known.poses)
    state = run_refinement(refinement, state, session, search=True)
    write_refined(setup.particles, refinement, state, setup.settings.contrast, session)


def _keep_network(setup: Setup, poses: Pose) -> None:
    """Copy the network's map and poses to where the refinement does not write; `evaluate` takes that for a run."""
    run = setup.session.run.path
    with replacing(run / "network/volumes/volume.mrc") as temporary:
        shutil.copyfile(run / "volumes/volume.mrc", temporary)
    write_star(run / "network/particles.star", setup.particles, pose=poses)
