"""Reconstruction from known poses: one pass over the images."""

import torch
from torch import Tensor

from cryoloom.data.particles import Particles
from cryoloom.physics.fourier import fourier_shell_correlation
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import point_group
from cryoloom.solve.em.images import WorkingImages, first_noise
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.em.refine import ParticlePoses, Refinement, RefineState, signal_to_noise
from cryoloom.solve.em.sums import SliceSums
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
        sums.add_particles(evidence, rotation, shift / images.pixel_size, torch.ones(len(chunk), 1, device=images.device))
    return sums.all_reduced(team)


def start_from_poses(refinement: Refinement, pose: Pose) -> RefineState:
    """The refinement's state after one pass over all images at given poses: half-maps, FSC and noise, nothing moved."""
    images = refinement.images
    n = len(images)
    rotation, shift = pose.best_rotation.float(), pose.best_shift.float() / images.pixel_size
    poses = ParticlePoses(rotation, shift, torch.zeros(n), torch.zeros(n), torch.ones(n))
    noise = first_noise(images)
    state = refinement.start(torch.zeros((images.box,) * 3, device=images.device), noise, 4.0, poses)
    sums = [insert_at_poses(images, half, pose, noise, refinement.group, refinement.team) for half in refinement.halves]
    return refinement.maximise(state, (sums[0], sums[1]), None)


def reconstruct_known(particles: Particles, pose: Pose, symmetry: str = "C1") -> Tensor:
    """Wiener-filtered volume (D, D, D) of all particles at `pose`: with true poses, the limit that the data set."""
    images = WorkingImages(particles)
    noise, group, team = first_noise(images), point_group(symmetry), Team()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    halves = [insert_at_poses(images, order[i::2].sort().values, pose, noise, group, team) for i in (0, 1)]
    flat = torch.full((images.box // 2,), 1e4)
    sphere = soft_sphere(images.box, 0.45 * images.box)
    fsc = fourier_shell_correlation(*(half.volume(flat) * sphere for half in halves))
    return (halves[0] + halves[1]).volume(2 * signal_to_noise(fsc)) * sphere
