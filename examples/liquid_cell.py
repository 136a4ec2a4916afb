"""A movie of a field of view and its tracks, out of simulated movies of single molecules: what a microscope gives.

    cryoloom simulate phantom --movies 60 --frames 12 --no-ctf --box 48 --pixel-size 2.5 --shift 0 --snr 1 -o molecules
    python examples/liquid_cell.py molecules cell

Every molecule drifts with the field and wanders about its own place; cell/field.mrc and cell/tracks.csv are what
`cryoloom crop` takes.
"""

import json
import math
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
from scipy.ndimage import fourier_shift

from cryoloom.data import read_particles

WANDER, DRIFT, SPACING = 0.7, 1.5, 1.5


def main(source: Path, out: Path) -> None:
    """Write the field (frames, height, width) and the table of tracks."""
    particles = read_particles(source / "particles.star")
    movie = np.unique(particles.column("movie_id"), return_inverse=True)[1]
    frame = particles.column("frame").astype(int)
    noise = math.sqrt(json.loads((source / "truth/truth.json").read_text())["noise_variance"])
    random, box = np.random.default_rng(0), particles.box
    side, step = math.ceil(math.sqrt(movie.max() + 1)), int(SPACING * box)
    field = random.normal(0, noise, (frame.max() + 1, (side + 1) * step, (side + 1) * step)).astype(np.float32)
    drift = np.cumsum(random.normal(0, DRIFT, (frame.max() + 1, 2)), 0)
    walk = np.cumsum(random.normal(0, WANDER, (movie.max() + 1, frame.max() + 1, 2)), 1)
    places = (np.stack([movie // side, movie % side], 1) + 1) * step + drift[frame] + walk[movie, frame]
    for row, (t, place) in enumerate(zip(frame, places, strict=True)):
        whole = np.floor(place).astype(int)
        image = particles.images([row])[0].numpy()
        image = np.fft.ifft2(fourier_shift(np.fft.fft2(image), place - whole)).real
        y, x = whole - box // 2
        field[t, y : y + box, x : x + box] = image
    out.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(out / "field.mrc", field, overwrite=True) as file:
        file.set_image_stack()
        file.voxel_size = particles.pixel_size
    table = {"particle": movie, "x": places[:, 1], "y": places[:, 0], "frame": frame}
    pd.DataFrame(table).to_csv(out / "tracks.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
