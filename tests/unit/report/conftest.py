"""A run directory with everything that a report can show, made up."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import read_particles, write_stack, write_star, write_volume
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations

BOX, PIXEL = 48, 2.0


def synthetic_map(box: int = BOX) -> torch.Tensor:
    """A coil of Gaussian blobs in noise."""
    turn = torch.linspace(0, 5 * torch.pi, 40)
    centres = torch.stack([7 * turn.cos(), 7 * turn.sin(), torch.linspace(-12, 12, 40)], -1) * box / 48
    axis = torch.arange(float(box)) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1)
    volume = sum(torch.exp(-(points - c).square().sum(-1) / (2 * (box / 24) ** 2)) for c in centres)
    generator = torch.Generator().manual_seed(0)
    return torch.as_tensor(volume) + 0.03 * torch.randn(box, box, box, generator=generator)


def write_run(run: Path, n: int = 2000) -> Path:
    """A synthetic run of `n` particles in the folder `run`."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    write_volume(run / "volumes" / "volume.mrc", synthetic_map(), PIXEL)
    write_stack(run.parent / "particles.mrcs", [torch.zeros(n, 8, 8)], n, 8, PIXEL)
    columns = {
        "rotation_sigma_deg": rng.gamma(4, 0.5, n).astype(np.float32),
        "shift_sigma_angst": rng.gamma(3, 0.2, n).astype(np.float32),
        "max_posterior": rng.beta(6, 2, n).astype(np.float32),
        "half_set": rng.integers(1, 3, n),
    }
    pose = Pose.single(random_rotations(n, generator))
    write_star(run / "particles.star", read_particles(run.parent / "particles.mrcs"), pose, columns)
    (run / "config.yaml").write_text(
        "system: loom\nsymmetry: C1\ncommand: cryoloom reconstruct <a>.star -o run\nseed: 0\n"
    )
    shells = np.arange(BOX // 2)
    with np.errstate(divide="ignore"):
        resolution = BOX * PIXEL / shells
    fall = 1 / (1 + np.exp((shells - 14) / 1.5))
    rows = [
        f"{s},{r},{f},{0.8 * f},{min(1, 1.05 * f)},{np.exp(-((s / 4) ** 2))}"
        for s, r, f in zip(shells, resolution, fall, strict=True)
    ]
    header = "shell,resolution_angst,fsc,fsc_unmasked,fsc_masked,fsc_phase_randomised"
    (run / "fsc.csv").write_text("\n".join([header, *rows]) + "\n")
    truth = [f"{s},{r},{f**1.3}" for s, r, f in zip(shells, resolution, fall, strict=True)]
    (run / "fsc_truth.csv").write_text("\n".join(["shell,resolution_angst,fsc", *truth]) + "\n")
    steps = [
        {
            "stage": "ab initio" if i < 40 else "refine",
            "iteration": i,
            "seconds": 2.0 * i,
            "band": min(24, 5 + i // 3),
            "resolution_angst": 96 / min(24, 5 + i // 3),
            "log_likelihood": -1e6 * (1 + np.exp(-i / 12)),
            "images_per_s": float(200 + rng.normal(0, 8)),
            "memory_gb": 0.9,
        }
        for i in range(60)
    ]
    alarm = {
        "name": "preferred_orientation",
        "severity": "warning",
        "message": "A third of the directions is seen by fewer than 5 particles.",
        "advice": "Resolution will differ with direction; look at the <orientation> map.",
    }
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)) + '\n{"stage": "cut he')
    (run / "alarms.json").write_text(json.dumps([alarm]))
    evaluation = {"rotation_error_median": 0.0012, "rotation_error_deg_median": 1.4, "hand_flipped": True}
    (run / "evaluation.json").write_text(json.dumps(evaluation | {"resolution_fsc50_angst": 6.9}))
    return run


@pytest.fixture
def full_run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")
