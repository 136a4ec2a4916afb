"""cryoDRGN's train_vae on our files, judged as our runs are."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoloom.data import read_particles
from cryoloom.data.cryodrgn import read_pickle, write_pickles
from cryoloom.data.mrc import read_volume
from cryoloom.evaluate.bench.peers import Peer
from cryoloom.evaluate.bench.runs import seeded
from cryoloom.evaluate.heterogeneity import TrueConformations, compared, fsc_areas
from cryoloom.evaluate.latents import conformation_correlation


@dataclass(frozen=True)
class Judged:
    """|Spearman| of z with the true coordinate, mean FSC area of particles' maps, images a second of training."""

    correlation: float
    area: float
    images_per_s: float


@dataclass(frozen=True)
class Vae:
    """What train_vae learns, in the folder `out`, at the true poses of a simulated set cropped to a box as ours is.

    z: (N, Z) of all particles; images_per_s: of training, in the epochs after the first.
    """

    peer: Peer
    out: str
    passes: int
    z: NDArray
    images_per_s: float

    @classmethod
    def trained(cls, peer: Peer, data: str, box: int, z_dim: int, passes: int, dim: int, seed: int = 0) -> "Vae":
        """Train on the set `data` for some passes with `dim` units a layer."""
        folder, out = peer.book.bench.folder, seeded(f"{data}/peer", seed)
        truth = read_particles(folder / data / "truth/particles.star")
        small = f"{data}/small.mrcs"
        peer.run(small, "downsample", f"{data}/particles.mrcs", "-D", box, "-o", small)
        write_pickles(folder / data, truth)
        given = f"--poses {data}/pose.pkl --ctf {data}/ctf.pkl --zdim {z_dim} -n {passes} --seed {seed} --no-analysis"
        size = f"--enc-dim {dim} --dec-dim {dim} --enc-layers 3 --dec-layers 3"
        epochs = peer.epochs("train_vae", small, *given.split(), *size.split(), out=out)
        rate = len(truth) / mean(list(epochs.values())[1:] or list(epochs.values()))
        z = np.asarray(read_pickle(folder / out / f"z.{passes}.pkl"), dtype=float)
        return cls(peer, out, passes, z, rate)

    def maps(self, z: NDArray) -> list[Path]:
        """Files of the maps at latents (n, Z)."""
        folder, out = self.peer.book.bench.folder, self.out
        np.savetxt(folder / out / "chosen.txt", z)
        config = ("-c", f"{out}/config.yaml", "--zfile", f"{out}/chosen.txt")
        self.peer.run(f"{out}/maps", "eval_vol", f"{out}/weights.{self.passes}.pkl", *config, "-o", f"{out}/maps")
        return sorted((folder / out / "maps").glob("*.mrc"))


def train_vae(peer: Peer, data: str, sizes: Any) -> Judged:
    """Train at the true poses of a simulated set, cropped to the working box as ours is."""
    s, folder = sizes, peer.book.bench.folder / data
    vae = Vae.trained(peer, data, s.working_box, 1, s.passes, s.dim)
    truth = read_particles(folder / "truth/particles.star")
    which = truth.column("conformation").astype(int)
    chosen = compared(len(vae.z))
    true = TrueConformations.of(folder / "truth", s.working_box)
    maps = Maps(vae.maps(vae.z[chosen]), chosen, true(0) + true(len(true) - 1))
    area = fsc_areas(maps, which, true)["per_particle_fsc_auc_mean"]
    coordinate = truth.column("conformation_coordinate").astype(float)
    return Judged(conformation_correlation(vae.z, coordinate), area, vae.images_per_s)


def search_seconds(peer: Peer, data: str, images: int) -> float:
    """Seconds an image of one epoch of `abinit --zdim 1`, search and training step, from a few images of a set."""
    folder = peer.book.bench.folder / data
    write_pickles(folder, read_particles(folder / "truth/particles.star"))
    (folder / "few.pkl").write_bytes(pickle.dumps(np.arange(images)))
    given = f"--ctf {data}/ctf.pkl --ind {data}/few.pkl --seed 0 --no-analysis --zdim 1"
    once = "--n-imgs-pretrain 0 --epochs-pose-search 1 --epochs-sgd 0"
    epochs = peer.epochs("abinit", f"{data}/particles.mrcs", *given.split(), *once.split(), out=f"{data}/abinit")
    return epochs[1] / images


class Maps:
    """The maps (D, D, D) of chosen particles, the molecule positive as in a true map (D, D, D)."""

    def __init__(self, paths: list[Path], chosen: NDArray, true: Tensor):
        self.paths = dict(zip(chosen.tolist(), paths, strict=True))
        self.sign = 1.0
        self.sign = float(torch.sign((self(int(chosen[0])) * true).sum()))

    def __call__(self, particle: int) -> Tensor:
        return self.sign * read_volume(self.paths[particle])[0]
