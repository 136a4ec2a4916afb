"""What a finished fit leaves in its run directory: the field's map, positive, and the pose of every particle."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoloom.data import write_star
from cryoloom.data.files import replacing
from cryoloom.data.mrc import write_volume
from cryoloom.data.particles import Particles
from cryoloom.physics.pose import Pose
from cryoloom.solve.contrast import contrast_of
from cryoloom.solve.em.alarms import Alarm, input_alarms, map_alarms, mirror_alarms, view_alarms
from cryoloom.solve.em.results import write_alarms
from cryoloom.solve.latents import Latents
from cryoloom.solve.run import Run


def write_fit(
    run: Run,
    particles: Particles,
    volume: Tensor,
    mask: Tensor,
    poses: Pose,
    contrast: str,
    latents: Latents | None = None,
    agreement: Tensor | None = None,
    widths: Tensor | None = None,
    alarms: Sequence[Alarm] = (),
) -> str:
    """Write volumes/volume.mrc, particles.star, latents.npz and alarms.json; returns the molecule's contrast.

    volume: (D, D, D) as the images have it; mask: (D, D, D) multiplied on; poses: of all particles, shifts in Å.
    agreement: (N,) of each image with its prediction; its negative is the column junk_score. widths: (N, 5) of each
    pose, rotation in radians and shift in Å. alarms: of the fit, to which those of its map and poses are added.
    """
    found = contrast_of((volume * mask)[mask > 0], contrast, particles.has_ctf)
    volume = found.sign * volume
    write_volume(run.path / "volumes" / "volume.mrc", (volume * mask).cpu(), particles.pixel_size)
    columns = latent_columns(latents) | width_columns(widths)
    columns |= {} if agreement is None else {"junk_score": -agreement}
    write_star(run.path / "particles.star", particles, pose=poses, columns=columns)
    if latents is not None:
        write_latents(run.path / "latents.npz", latents)
    of_map = map_alarms(volume, float((mask > 0.5).sum() * 3 / (4 * torch.pi)) ** (1 / 3))
    of_fit = [*alarms, *of_map, *mirror_alarms(volume * mask), *view_alarms(poses.best_rotation)]
    write_alarms(run, [*of_fit, *input_alarms(particles)])
    run.record(stage="results", contrast=found.name, sign=found.sign)
    return found.name


def latent_columns(latents: Latents | None) -> dict[str, Tensor]:
    """The columns latent_1 … of particles.star."""
    if latents is None:
        return {}
    return {f"latent_{i + 1}": column for i, column in enumerate(latents.mean.unbind(1))}


def width_columns(widths: Tensor | None) -> dict[str, Tensor]:
    """The columns rotation_sigma_deg and shift_sigma_angst of particles.star, root mean squares."""
    if widths is None:
        return {}
    rotation, shift = widths[:, :3].norm(dim=1), widths[:, 3:].norm(dim=1)
    return {"rotation_sigma_deg": torch.rad2deg(rotation), "shift_sigma_angst": shift}


def write_latents(path: Path, latents: Latents) -> None:
    """Write z_mean and z_log_var (N, Z) and the row of each particle, `particle` (N,)."""
    particle, mean, log_var = np.arange(len(latents.mean)), latents.mean.numpy(), latents.log_var.numpy()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, particle=particle, z_mean=mean, z_log_var=log_var)
