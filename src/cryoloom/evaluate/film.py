"""Maps as moving pictures: shaded surfaces from two sides, one frame a map, and a script for ChimeraX."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cryoloom.data.files import replacing
from cryoloom.evaluate.maps import surface_level
from cryoloom.physics.fourier import resample_volume
from cryoloom.physics.rigid import sample_moved

SIZE = 256
MILLISECONDS = 140
_COLOUR = np.array([143, 180, 212]) / 255
_LIGHT = np.array([0.35, 0.45, 0.82])
_PAPER = 1.0


def viewing_rotation(volume: NDArray, level: float) -> Tensor:
    """Rotation (3, 3) that lays a map's longest axis along x and its shortest along z, towards the eye."""
    weight = (volume > level).astype(np.float64)
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in volume.shape), indexing="ij")
    points = np.stack([x, y, z], -1)[weight > 0]
    if len(points) < 4:
        return torch.eye(3)
    axes = np.linalg.eigh(np.cov(points.T))[1][:, ::-1].T
    axes[2] *= np.sign(np.linalg.det(axes))
    return torch.from_numpy(axes.copy()).float()


def shaded_view(volume: Tensor, level: float, rotation: Tensor, size: int = SIZE) -> NDArray:
    """A picture (size, size, 3), values 0 to 1, of a map's surface at `level`, turned by `rotation`, seen along −z.

    Brightness is the cosine between the light and the map's gradient where the line of sight first meets the surface.
    """
    fine = 2 * round(0.2 * size)
    moved = sample_moved(resample_volume(volume, fine), rotation[None], torch.zeros(1, 3))[0].numpy()
    # Depth first, growing away from the eye.
    moved = np.ascontiguousarray(moved[::-1])
    solid = np.asarray(moved > level)
    hit, first = np.asarray(solid.any(0)), np.asarray(solid.argmax(0))
    smooth = gaussian_filter(moved, 0.4 * fine / volume.shape[-1] + 0.6, truncate=2.5)
    slopes = [_slope(smooth, first, axis) for axis in range(3)]
    # Array axes are depth, y, x; density grows towards the inside.
    normal = np.stack([-slopes[2], -slopes[1], slopes[0]], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True).clip(min=1e-12)
    bright = 0.32 + 0.68 * (normal @ (_LIGHT / np.linalg.norm(_LIGHT))).clip(min=0)
    depth = first / len(solid)
    bright = bright * (1 - 0.35 * (depth - depth[hit].min(initial=1)).clip(min=0))
    picture = np.where(hit[..., None], bright[..., None] * _COLOUR, _PAPER)
    grey = Image.fromarray((255 * picture[::-1].clip(0, 1)).astype(np.uint8))
    return np.asarray(grey.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32) / 255


def _slope(volume: NDArray, depth: NDArray, axis: int) -> NDArray:
    """Central difference (D, D) of a volume along one axis at the voxels of a depth map (D, D)."""
    place = [depth, *np.indices(depth.shape)]
    after, before = list(place), list(place)
    after[axis] = (place[axis] + 1).clip(max=volume.shape[axis] - 1)
    before[axis] = (place[axis] - 1).clip(min=0)
    return volume[tuple(after)] - volume[tuple(before)]


def frames(volumes: Sequence[Tensor], size: int = SIZE, sides: int = 2) -> list[NDArray]:
    """One frame (size, sides·size, 3), bytes, a map (D, D, D): from the front, and from its side where two are wanted.

    All are drawn at one level and turn.
    """
    mean = torch.stack([resample_volume(v, min(v.shape[-1], 64)) for v in volumes]).mean(0).numpy()
    level = float(np.mean([surface_level(v.numpy()) for v in volumes]))
    front = viewing_rotation(mean, level)
    side = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) @ front
    made = []
    for volume in volumes:
        views = [shaded_view(volume, level, turn, size) for turn in (front, side)[:sides]]
        made.append((255 * np.concatenate(views, 1)).round().astype(np.uint8))
    return made


def gif_bytes(pictures: Sequence[NDArray], back: bool) -> bytes:
    """Frames as a GIF that repeats; `back`: it runs to the end and back, as a motion without direction does."""
    shown = [Image.fromarray(p) for p in _there_and_back(pictures, back)]
    palette = shown[0].quantize(128)
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in shown]
    buffer = io.BytesIO()
    drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=MILLISECONDS, loop=0)
    return buffer.getvalue()


def write_mp4(path: Path, pictures: Sequence[NDArray], back: bool) -> bool:
    """Write frames as an MP4; False where imageio's ffmpeg is not installed."""
    try:
        import imageio_ffmpeg  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    import imageio.v2 as imageio

    # Players stop at the end of an MP4: three rounds show the motion.
    rounds = list(_there_and_back(pictures, back)) * 3
    writer: Any = imageio.get_writer(path, format="FFMPEG", fps=1000 / MILLISECONDS)  # pyright: ignore[reportArgumentType]
    with writer:
        for picture in rounds:
            writer.append_data(picture)
    return True


def _there_and_back(pictures: Sequence[NDArray], back: bool) -> list[NDArray]:
    return [*pictures, *pictures[-2:0:-1]] if back else list(pictures)


def write_chimerax(path: Path, maps: Sequence[Path], level: float) -> None:
    """Write a ChimeraX script, beside the maps, that opens them as a series at one level and plays it."""
    names = " ".join(f'"{name.name}"' for name in maps)
    play = "vseries play #1 direction oscillate loop true" if len(maps) > 1 else ""
    series = "vseries true" if len(maps) > 1 else ""
    lines = [f"open {names} {series}".strip(), f"volume #1 step 1 level {level:.6g} color #8fb4d4", "view", play]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(line for line in lines if line) + "\n")
