"""A small particle set on disk, as RELION would leave it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryoloom.data import write_stack

BOX, N = 16, 12


@pytest.fixture
def images() -> torch.Tensor:
    """Images (N, BOX, BOX) of noise."""
    return torch.randn(N, BOX, BOX, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def project(tmp_path: Path, images: torch.Tensor) -> Path:
    """A project folder: job/particles.star names two stacks, shuffled, relative to the project."""
    write_stack(tmp_path / "mics" / "a.mrcs", [images[:8]], 8, BOX, 2.5)
    write_stack(tmp_path / "mics" / "b.mrcs", [images[8:]], 4, BOX, 2.5)
    order = np.random.default_rng(0).permutation(N)
    rows = [
        f"{1 + i - (0 if i < 8 else 8):06d}@mics/{'a' if i < 8 else 'b'}.mrcs mic{i % 3}.mrc "
        f"{15000 + 10 * i} {14500 + 10 * i} {3 * i} {20 * i - 100} {15 * i} {-30 * i + 100} {0.5 * i} {-0.25 * i} "
        f"{1 + i % 2} 1 {0.1 * i} tag{i}"
        for i in order
    ]
    labels = [
        "rlnImageName",
        "rlnMicrographName",
        "rlnDefocusU",
        "rlnDefocusV",
        "rlnDefocusAngle",
        "rlnAngleRot",
        "rlnAngleTilt",
        "rlnAnglePsi",
        "rlnOriginXAngst",
        "rlnOriginYAngst",
        "rlnRandomSubset",
        "rlnOpticsGroup",
        "rlnAutopickFigureOfMerit",
        "myTag",
    ]
    optics = [
        "rlnOpticsGroup",
        "rlnOpticsGroupName",
        "rlnVoltage",
        "rlnSphericalAberration",
        "rlnAmplitudeContrast",
        "rlnImagePixelSize",
        "rlnImageSize",
        "rlnImageDimensionality",
        "rlnBeamTiltX",
    ]
    text = ["# version 30001", "", "data_optics", "", "loop_"]
    text += [f"_{label} #{i + 1}" for i, label in enumerate(optics)]
    text += [f"1 opticsGroup1 300.0 2.7 0.1 2.5 {BOX} 2 0.25", "", "data_particles", "", "loop_"]
    text += [*(f"_{label} #{i + 1}" for i, label in enumerate(labels)), *rows, ""]
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "particles.star").write_text("\n".join(text))
    np.save(tmp_path / "order.npy", order)
    return tmp_path
