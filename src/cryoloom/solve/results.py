"""What a finished fit leaves in its run directory: the field's map, positive, and the pose of every particle."""

import torch
from torch import Tensor

from cryoloom.data import write_star
from cryoloom.data.mrc import write_volume
from cryoloom.data.particles import Particles
from cryoloom.physics.pose import Pose
from cryoloom.solve.contrast import contrast_of
from cryoloom.solve.em.alarms import map_alarms
from cryoloom.solve.em.results import write_alarms
from cryoloom.solve.run import Run


def write_fit(run: Run, particles: Particles, volume: Tensor, mask: Tensor, poses: Pose, contrast: str) -> str:
    """Write volumes/volume.mrc, particles.star and alarms.json; returns the molecule's contrast in the images.

    volume: (D, D, D) as the images have it; mask: (D, D, D) multiplied on; poses: of all particles, shifts in Å.
    """
    contrast = contrast_of((volume * mask)[mask > 0], contrast)
    volume = volume if contrast == "black" else -volume
    write_volume(run.path / "volumes" / "volume.mrc", (volume * mask).cpu(), particles.pixel_size)
    write_star(run.path / "particles.star", particles, pose=poses)
    write_alarms(run, map_alarms(volume, float((mask > 0.5).sum() * 3 / (4 * torch.pi)) ** (1 / 3)))
    run.record(stage="results", contrast=contrast)
    return contrast
