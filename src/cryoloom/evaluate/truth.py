"""A run against the truth of a simulation: poses, resolution, and the resolution that the data could have given."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from cryoloom.data import Particles, read_particles
from cryoloom.data.files import existing, replacing
from cryoloom.data.matching import matching_rows
from cryoloom.data.mrc import read_volume, write_volume
from cryoloom.errors import InputError
from cryoloom.evaluate.fsc import FSCCurve, fsc
from cryoloom.evaluate.heterogeneity import heterogeneity
from cryoloom.evaluate.pose_error import PoseErrors, pose_errors
from cryoloom.physics.alignment import VolumeAlignment, align_volume, refine_volume
from cryoloom.physics.fourier import resample_volume
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import point_group

# Poses worse than this say little about how the map lies: then the maps themselves are searched as well.
_UNSURE_DEG = 15.0


def evaluate_run(run: Path | str, truth: Path | str) -> dict[str, Any]:
    """Compare the folder `run` with the folder `truth` and write run/evaluation.json; returns what is in it.

    Also writes run/fsc_truth.csv (shell, resolution_angst, fsc) and run/volumes/aligned_to_truth.mrc. Particles are
    matched by image file name and image number. The map is placed by the poses' global rotation, hand and translation,
    then refined.
    Raises InputError for missing files, particles without a truth, or maps of different fields of view.
    """
    run, truth = Path(run), Path(truth)
    particles = read_particles(existing(run / "particles.star", "run's particles (is the run finished?)"))
    true_particles = read_particles(existing(truth / "particles.star", "STAR file with the true poses"))
    volume, pixel_size = read_volume(existing(run / "volumes" / "volume.mrc", "run's map (is the run finished?)"))
    true_volume = true_map(truth, volume.shape[-1], pixel_size)

    rows = match_particles(particles, true_particles)
    true_poses = true_particles.poses(rows)
    group = point_group(run_symmetry(run))
    errors = pose_errors(particles.poses(), true_poses, true_particles.source_pixel_size, group)
    placed = _place(volume, true_volume, errors, pixel_size)
    curve = fsc(placed.volume, true_volume, pixel_size)
    same_box, symmetry = particles.with_box(volume.shape[-1]), run_symmetry(run)
    oracle = _oracle_curve(same_box, true_poses, true_volume, pixel_size, symmetry)

    result = errors.summary() | resolution_summary(curve, oracle)
    result |= heterogeneity(run, truth, same_box, true_poses, placed, rows)
    curve.to_csv(run / "fsc_truth.csv")
    write_volume(run / "volumes" / "aligned_to_truth.mrc", placed.volume, pixel_size)
    with replacing(run / "evaluation.json") as part:
        part.write_text(json.dumps(result, indent=2) + "\n")
    return result


def resolution_summary(curve: FSCCurve, oracle: FSCCurve) -> dict[str, float]:
    """The resolution numbers of evaluation.json; fsc50_px is the resolution in pixels, `resolution / pixel_size`."""
    reached, possible = curve.resolution(0.5), oracle.resolution(0.5)
    return {
        "resolution_fsc50_angst": reached,
        "resolution_fsc143_angst": curve.resolution(0.143),
        "fsc50_px": reached / curve.pixel_size,
        "oracle_fsc50_angst": possible,
        "resolution_over_oracle": reached / possible,
    }


def match_particles(particles: Particles, reference: Particles) -> Tensor:
    """Rows (N,) of `reference` that hold the same images as `particles`, by stack and image number.

    Raises InputError when an image is not in `reference` or is listed more often there.
    """
    try:
        rows = matching_rows(particles.image_names, reference.image_names).rows
    except InputError as error:
        raise InputError(f"{error} To compare with a truth, give the truth folder of the same data set.") from error
    if (rows < 0).any():
        first = particles.image_names.text(int((rows < 0).argmax()))
        raise InputError(
            f"{particles.source}: {int((rows < 0).sum())} of {len(rows)} particles (first: {first}) "
            f"are not in {reference.source}; give the truth folder of the same data set."
        )
    return torch.from_numpy(rows)


def run_symmetry(run: Path) -> str:
    """The name of the point group in the run's configuration; C1 where it names none."""
    config = run / "config.yaml"
    settings = yaml.safe_load(config.read_text()) if config.is_file() else None
    name = settings.get("symmetry") if isinstance(settings, dict) else None
    return str(name or "C1")


def true_map(truth: Path, box: int, pixel_size: float) -> Tensor:
    """The true map, or the mean of the true conformations, sampled like the run's map."""
    single = truth / "volume.mrc"
    paths = [single] if single.is_file() else sorted((truth / "conformations").glob("*.mrc"))
    if not paths:
        raise InputError(
            f"{truth}: no true map; expected volume.mrc or conformations/*.mrc: give simulate's truth folder."
        )
    total, true_pixel = read_volume(paths[0])
    for path in paths[1:]:
        total = total + read_volume(path)[0]
    field, true_field = box * pixel_size, total.shape[-1] * true_pixel
    if abs(field - true_field) > 0.01 * true_field:
        raise InputError(
            f"{paths[0]}: the true map is {true_field:.1f} Å wide and the run's {field:.1f} Å; "
            "give the truth folder of the same data set."
        )
    return resample_volume(total / len(paths), box)


def _place(volume: Tensor, reference: Tensor, errors: PoseErrors, pixel_size: float) -> VolumeAlignment:
    """The run's map on the true one: from the poses where they agree, else from the maps too, whichever fits better."""
    alignment = errors.alignment
    start = errors.translation / pixel_size
    placed = refine_volume(volume, reference, alignment.rotation, alignment.hand_flipped, start)
    if errors.rotation_error_deg_median < _UNSURE_DEG:
        return placed
    return max(placed, align_volume(volume, reference), key=lambda placement: placement.correlation)


def _oracle_curve(
    particles: Particles, true_poses: Pose, true_volume: Tensor, pixel_size: float, symmetry: str
) -> FSCCurve:
    """FSC to the truth of the map that the same images give at their true poses: the limit of the information.

    With and without the run's symmetry, whichever is better: the true map need not stand on the symmetry's axes.
    """
    from cryoloom.solve.em.known import reconstruct_known

    curves = [
        fsc(reconstruct_known(particles, true_poses, group).cpu(), true_volume, pixel_size)
        for group in dict.fromkeys(["C1", symmetry])
    ]
    return max(curves, key=lambda curve: curve.shell_at(0.5))
