"""Reconstruction from known poses: one pass over the images."""

from dataclasses import replace

import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.physics.pose import Pose
from cryoloom.solve.em.refine import ParticlePoses, Refinement, RefineSettings, RefineState
from cryoloom.solve.em.sums import SliceSums
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.team import Team


def insert_at_poses(
    images: WorkingImages, index: Tensor, pose: Pose, noise: Tensor, group: Tensor, team: Team
) -> SliceSums:
    """Sums of the images at `index` (n,) at their best pose; pose of all particles, shifts in Å, noise (D/2,)."""
    band = images.box / 2
    sums = SliceSums.zeros(images.box, band, group, images.device)
    for chunk in images.chunks(team.share(index)):
        evidence = images.evidence(chunk, noise, band)
        part = pose.select(chunk)
        rotation, shift = part.rotation[:, :1].to(images.device), part.shift[:, :1].to(images.device)
        sums.add_particles(
            evidence, rotation, shift / images.pixel_size, torch.ones(len(chunk), 1, device=images.device)
        )
    return sums.all_reduced(team)


def start_from_poses(refinement: Refinement, pose: Pose) -> RefineState:
    """The refinement's state after one pass over all images at given poses: half-maps, FSC and noise, nothing moved."""
    images = refinement.images
    n = len(images)
    rotation, shift = pose.best_rotation.float(), pose.best_shift.float() / images.pixel_size
    poses = ParticlePoses(rotation, shift, torch.zeros(n), torch.zeros(n), torch.ones(n))
    noise = first_noise(images)
    empty = torch.zeros((images.box,) * 3, device=images.device)
    state = refinement.start((empty, empty), noise, 4.0, poses)
    sums = [
        insert_at_poses(images, half, pose, noise, refinement.scope.group, refinement.team)
        for half in refinement.halves
    ]
    # A second time with the mask that the first map gave: less noise in the FSC that filters the map.
    state = refinement.maximise(state, (sums[0], sums[1]), None)
    state = refinement.maximise(state, (sums[0], sums[1]), None)
    return replace(state, iteration=0)


def reconstruct_known(particles: Particles, pose: Pose, symmetry: str = "C1") -> Tensor:
    """Masked, Wiener-filtered volume (D, D, D) of all particles at `pose`: with true poses, the data's limit."""
    images = WorkingImages(particles)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    halves = (order[::2].sort().values, order[1::2].sort().values)
    scope = Scope.of(ScopeSettings.model_validate({}), images, symmetry)
    refinement = Refinement(images, RefineSettings(), scope, halves, Team())
    state = start_from_poses(refinement, pose)
    return state.volume * state.mask
