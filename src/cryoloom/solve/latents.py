"""The conformations of all particles during a fit: read by the model, or settled one by one at a field."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from cryoloom.model.conformation.latent import Latent
from cryoloom.model.conformation.settle import Settled, settle, signal_sigma
from cryoloom.physics.pose import Pose
from cryoloom.solve.model import Model
from cryoloom.solve.session import Progress
from cryoloom.solve.stages import Stage

_CHUNK = 256
# Conformations of other particles that each particle is tried with, and Newton steps from the best of all.
_CANDIDATES = 10
_STEPS = 3
# Particles on which an encoder is judged.
_JUDGED = 500


class Latents(NamedTuple):
    """Mean and log variance (N, Z) of what is believed of every particle's conformation."""

    mean: Tensor
    log_var: Tensor

    def draws(self, n: int, generator: torch.Generator) -> Tensor:
        """Conformations (n, K, Z) drawn from what is believed of particles drawn at random."""
        index = torch.randint(len(self.mean), (n, _CANDIDATES), generator=generator)
        mean, spread = self.mean[index], (0.5 * self.log_var[index]).exp()
        return mean + spread * torch.randn(mean.shape, generator=generator)


def prior(n: int, model: Model) -> Latents:
    """Of n particles of which nothing is known: N(0, 1); no dimension where the model has no conformations."""
    z_dim = 0 if model.conformation is None else model.conformation.z_dim
    return Latents(torch.zeros(n, z_dim), torch.zeros(n, z_dim))


@torch.no_grad()
def read_latents(
    model: Model, stage: Stage, poses: Pose, noise: Tensor, pieces: list[Tensor], progress: Progress
) -> Latents:
    """What the model's own part says of all particles, with the band and poses of a stage, in `pieces` of them."""

    def said(index: Tensor) -> Sequence[Tensor]:
        return model.latent(model.batch(index, noise, stage.band, pose=poses.select(index)))[:2]

    return Latents(*_read(said, pieces, "latents", progress))


@torch.no_grad()
def read_widths(model: Model, stage: Stage, noise: Tensor, pieces: list[Tensor], progress: Progress) -> Tensor:
    """Widths (N, 5) that the model says of all particles' poses, with the band of a stage, in `pieces` of them."""
    widths = model.widths
    assert widths is not None
    return _read(lambda index: [widths(model.batch(index, noise, stage.band))], pieces, "widths", progress)[0]


def _read(
    say: Callable[[Tensor], Sequence[Tensor]], pieces: list[Tensor], name: str, progress: Progress
) -> list[Tensor]:
    """What is said of the particles in each of the pieces, which hold all, in the order of the particles."""
    found, done, n = [], 0, sum(map(len, pieces))
    for index in pieces:
        found.append([part.cpu() for part in say(index)])
        done += len(index)
        progress(name, done, n, "")
    back = torch.cat(pieces).argsort()
    return [torch.cat(parts)[back] for parts in zip(*found, strict=True)]


@torch.no_grad()
def said_or_taught(model: Model, stage: Stage, poses: Pose, said: Latents, taught: Latents, noise: Tensor) -> Latents:
    """What the encoder says of all particles, or what it was taught where it says less than half of that.

    Measured on some particles by how much nearer to the images the field comes than with z = 0.
    """
    n = len(model.images)
    index = torch.linspace(0, n - 1, min(n, _JUDGED)).long()
    means = (torch.zeros_like(said.mean), said.mean, taught.mean)
    nothing, ours, known = (_misfit(model, stage, poses, mean, noise, index) for mean in means)
    return taught if nothing - ours < 0.5 * (nothing - known) else said


def _misfit(model: Model, stage: Stage, poses: Pose, mean: Tensor, noise: Tensor, index: Tensor) -> float:
    """Sum of the misfits of the particles at `index` with conformations `mean` (N, Z)."""
    total = 0.0
    for piece in index.split(_CHUNK):
        batch = model.batch(piece, noise, stage.band, read=False)
        z = mean[piece].to(model.images.device)
        latent = Latent.drawn(z, torch.zeros_like(z), torch.zeros_like(z))
        total += float(model.predict(batch, poses.select(piece), None, latent).misfit.total.sum())
    return total


@torch.no_grad()
def settled(
    model: Model, stage: Stage, poses: Pose, stored: Latents, noise: Tensor, index: Tensor, drawn: Tensor
) -> Settled:
    """The conformations of particles `index` (b,) at the field: from what is stored, read, and `drawn` (b, K, Z)."""
    pose, device = poses.select(index), model.images.device
    batch = model.batch(index, noise, stage.band, pose=pose)
    read = model.latent(batch).mean
    candidates = torch.cat([read[:, None], stored.mean[index, None].to(device), drawn.to(device)], 1)
    shift = pose.best_shift.to(device) / model.images.pixel_size
    return settle(model.renderer(pose, batch.lattice), batch.evidence, shift, candidates, stage.beta, _STEPS)


@torch.no_grad()
def agreement(model: Model, stage: Stage, poses: Pose, latents: Latents, noise: Tensor, progress: Progress) -> Tensor:
    """`signal_sigma` (N,) of all images at their poses and conformations."""
    found, n, device = [], len(model.images), model.images.device
    for index in torch.arange(n).split(_CHUNK):
        pose = poses.select(index)
        batch = model.batch(index, noise, stage.band, read=False)
        slices = model.renderer(pose, batch.lattice)(latents.mean[index].to(device))
        shift = pose.best_shift.to(device) / model.images.pixel_size
        found.append(signal_sigma(slices, batch.evidence, shift).cpu())
        progress("agreement", int(index[-1]) + 1, n, "")
    return torch.cat(found)


def representatives(latents: Latents, count: int) -> Tensor:
    """Conformations (K, Z), `count` at most, among which every particle has a near one, by k-means; 0 for one."""
    n, z_dim = latents.mean.shape
    if count == 1 or not z_dim or float(latents.mean.std(0).max()) < 1e-6:
        return torch.zeros(1, z_dim)
    centres, _ = kmeans2(latents.mean.double().numpy(), min(count, n), minit="++", rng=0)
    return torch.from_numpy(centres[np.isfinite(centres).all(1)]).float()


def nearest(latents: Latents, centres: Tensor, index: Tensor) -> Tensor:
    """Which (b,) of `centres` (K, Z) is nearest to the conformation of each particle at `index` (b,)."""
    return torch.cdist(latents.mean[index], centres).argmin(1)
