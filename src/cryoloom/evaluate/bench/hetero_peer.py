"""cryoDRGN's train_vae on our files, judged as our runs are."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoloom.data import read_particles
from cryoloom.data.cryodrgn import read_pickle, write_pickles
from cryoloom.data.mrc import read_volume
from cryoloom.evaluate.bench.peers import Peer
from cryoloom.evaluate.heterogeneity import TrueConformations, compared, fsc_areas
from cryoloom.evaluate.latents import conformation_correlation


@dataclass(frozen=True)
class Judged:
    """|Spearman| of z with the true coordinate, mean FSC area of particles' maps, images a second of training."""

    correlation: float
    area: float
    images_per_s: float


def train_vae(peer: Peer, data: str, sizes: Any) -> Judged:
    """Train at the true poses of a simulated set, cropped to the working box as ours is."""
    s, bench, out = sizes, peer.book.bench, f"{data}/peer"
    folder = bench.folder
    truth = read_particles(folder / data / "truth/particles.star")
    small = f"{data}/small.mrcs"
    peer.run(small, "downsample", f"{data}/particles.mrcs", "-D", s.working_box, "-o", small)
    write_pickles(folder / data, truth)
    given = f"--poses {data}/pose.pkl --ctf {data}/ctf.pkl --zdim 1 -n {s.passes} --seed 0 --no-analysis"
    size = f"--enc-dim {s.dim} --dec-dim {s.dim} --enc-layers 3 --dec-layers 3"
    epochs = peer.epochs("train_vae", small, *given.split(), *size.split(), out=out)
    rate = len(truth) / mean(list(epochs.values())[1:] or list(epochs.values()))
    z = read_pickle(folder / out / f"z.{s.passes}.pkl")
    which = truth.column("conformation").astype(int)
    chosen = compared(len(z))
    np.savetxt(folder / out / "chosen.txt", z[chosen])
    config = ("-c", f"{out}/config.yaml", "--zfile", f"{out}/chosen.txt")
    peer.run(f"{out}/maps", "eval_vol", f"{out}/weights.{s.passes}.pkl", *config, "-o", f"{out}/maps")
    true = TrueConformations.of(folder / data / "truth", s.working_box)
    made = _Maps(sorted((folder / out / "maps").glob("*.mrc")), chosen, true)
    area = fsc_areas(made, which, true)["per_particle_fsc_auc_mean"]
    coordinate = truth.column("conformation_coordinate").astype(float)
    return Judged(conformation_correlation(np.asarray(z, dtype=float), coordinate), area, rate)


class _Maps:
    """The maps (D, D, D) of chosen particles, the molecule positive as in the truth."""

    def __init__(self, paths: list[Path], chosen: np.ndarray, true: TrueConformations):
        self.paths = dict(zip(chosen.tolist(), paths, strict=True))
        first, last = true(0), true(len(true) - 1)
        self.sign = 1.0
        self.sign = float(torch.sign((self(int(chosen[0])) * (first + last)).sum()))

    def __call__(self, particle: int) -> Tensor:
        return self.sign * read_volume(self.paths[particle])[0]
