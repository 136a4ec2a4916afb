"""The command run in this process, and a particle set small enough to spoil in many ways."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mrcfile
import numpy as np
import pytest

from cryoloom.cli.main import run

BOX, N = 24, 12
OPTICS = {
    "rlnOpticsGroup": "1",
    "rlnVoltage": "300",
    "rlnSphericalAberration": "2.7",
    "rlnAmplitudeContrast": "0.1",
    "rlnImagePixelSize": "4.5",
    "rlnImageSize": str(BOX),
}
COLUMNS = ("rlnImageName", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnOpticsGroup")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What stands on stderr, on one line."""
        return re.sub(r"\s+", " ", self.err).strip()


@pytest.fixture
def cryoloom(capsys) -> Callable[..., Outcome]:
    """Type a command: `cryoloom("info", path)`."""

    def command(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            run([str(a) for a in arguments])
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command


def write_images(path: Path, images: np.ndarray, pixel_size: float = 4.5) -> None:
    """A stack (n, ny, nx) as any program might leave it."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images.astype(np.float32))
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size


def write_table(
    path: Path, n: int = N, optics: list[dict[str, str]] | None = None, columns: tuple[str, ...] = COLUMNS
) -> Path:
    """A RELION 3.1 file of `n` images of stack.mrcs, without poses."""
    optics = optics or [OPTICS]
    lines = ["data_optics", "", "loop_", *(f"_{label}" for label in optics[0])]
    lines += [" ".join(group.values()) for group in optics]
    lines += ["", "data_particles", "", "loop_", *(f"_{label}" for label in columns)]
    for i in range(n):
        value = {"rlnImageName": f"{i + 1:06d}@stack.mrcs", "rlnOpticsGroup": str(1 + i % len(optics))}
        lines.append(" ".join(value.get(label, f"{10000 + i}" if "Defocus" in label else "0") for label in columns))
    path.write_text("\n".join([*lines, ""]))
    return path


@pytest.fixture
def images() -> np.ndarray:
    """Images (N, BOX, BOX) of noise."""
    return np.random.default_rng(0).normal(size=(N, BOX, BOX))


@pytest.fixture
def star(tmp_path: Path, images: np.ndarray) -> Path:
    """particles.star and stack.mrcs, nothing wrong with either."""
    write_images(tmp_path / "stack.mrcs", images)
    return write_table(tmp_path / "particles.star")
