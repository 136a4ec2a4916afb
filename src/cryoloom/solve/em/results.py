"""What a finished reconstruction leaves in its run directory."""

import json
from dataclasses import replace

import pandas as pd
import torch

from cryoloom.data import write_star
from cryoloom.data.mrc import write_volume
from cryoloom.data.particles import Particles
from cryoloom.physics.pose import Pose
from cryoloom.solve.contrast import Contrast, contrast_of
from cryoloom.solve.em.alarms import Alarm
from cryoloom.solve.em.postprocess import Postprocessed
from cryoloom.solve.em.refine import ParticlePoses, RefineState
from cryoloom.solve.run import Run


def positive(state: RefineState, contrast: str, has_ctf: bool) -> tuple[RefineState, Contrast]:
    """The state with the molecule positive in its maps, and its contrast in the images, which have a CTF or none."""
    found = contrast_of((state.volume * state.mask)[state.mask > 0], contrast, has_ctf)
    if found.sign > 0:
        return state, found
    a, b = state.half_maps
    flipped = replace(state, half_maps=(-a, -b), volume=-state.volume, maps=(-state.maps[0], -state.maps[1]))
    return flipped, found


def write_maps(run: Run, state: RefineState, post: Postprocessed, pixel_size: float) -> None:
    """Final, half, sharpened maps and the mask into volumes/, and the FSC curves into fsc.csv."""
    maps = {
        "volume": state.volume * state.mask,
        "half_1": state.half_maps[0],
        "half_2": state.half_maps[1],
        "sharpened": post.sharpened,
        "mask": state.mask,
    }
    for name, volume in maps.items():
        write_volume(run.path / "volumes" / f"{name}.mrc", volume.cpu(), pixel_size)
    shell = torch.arange(len(post.fsc))
    table = pd.DataFrame(
        {
            "shell": shell.numpy(),
            "resolution_angst": (2 * len(post.fsc) * pixel_size / shell.clamp(min=0.5)).numpy().round(4),
            "fsc": post.fsc.numpy(),
            "fsc_unmasked": post.fsc_unmasked.numpy(),
            "fsc_masked": post.fsc_masked.numpy(),
            "fsc_phase_randomised": post.fsc_phase_randomised.numpy(),
            "fsc_chance": post.fsc_chance.numpy(),
        }
    )
    run.write_text("fsc.csv", table.to_csv(index=False, float_format="%.5g"))


def write_particles(
    run: Run, particles: Particles, poses: ParticlePoses, halves: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """particles.star with the pose, its uncertainty and the half-set of every particle."""
    half_set = torch.zeros(len(particles), dtype=torch.long)
    half_set[halves[0]], half_set[halves[1]] = 1, 2
    write_star(
        run.path / "particles.star",
        particles.with_columns(half_set=half_set.numpy()),
        pose=Pose.single(poses.rotation, poses.shift * particles.pixel_size),
        columns={
            "rotation_sigma_deg": poses.rotation_sigma_deg.numpy(),
            "shift_sigma_angst": (poses.shift_sigma_px * particles.pixel_size).numpy(),
            "max_posterior": poses.max_posterior.numpy(),
        },
    )


def write_alarms(run: Run, alarms: list[Alarm]) -> None:
    """alarms.json: a list, empty where nothing looks wrong."""
    run.write_text("alarms.json", json.dumps([alarm.as_dict() for alarm in alarms], indent=1))
