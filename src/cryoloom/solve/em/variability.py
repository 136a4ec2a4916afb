"""Variability: the linear components in which images at known poses differ from their mean."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity, pad

from cryoloom.model.objective import SCALE_PRIOR
from cryoloom.model.poses.evidence import Evidence, real_pairs
from cryoloom.physics.fourier import fourier_shell_correlation
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.so3 import point_group
from cryoloom.solve.em.known import insert_at_poses
from cryoloom.solve.em.masks import molecule_mask
from cryoloom.solve.em.refine import signal_to_noise
from cryoloom.solve.em.sums import PAD, SliceSums
from cryoloom.solve.images import WorkingImages
from cryoloom.solve.team import Team

_ITERATIONS = 25
# Components stand still when less than this part of their power is new.
_STILL = 3e-3
# Images that components are learned from: more of them tell little that is new, and cost as much again.
_LEARNED_FROM = 50_000
# Random components beside those that are asked for: some lie so that they find the strongest.
_SPARE = 3
# Iterations in which nothing is filtered but what is above a band (Fourier pixels), and every component is as strong as
# this part of the mean: before its z means anything a filter would end it.
_FIRST, _FIRST_BAND, _FIRST_PART = 5, 6.0, 0.3
# Components whose half-sets correlate less than that are noise, and end.
_ALIKE = 0.2
# Part of the components' power that any must have.
_LEAST = 1e-3
_MASK_BAND = 8.0
_FSC = (0.02, 0.99)

Halves = tuple[Tensor, Tensor]


class Volumes(NamedTuple):
    """Mean (D, D, D) of all particles and components (K, D, D, D) of one half-set."""

    mean: Tensor
    components: Tensor


class Read(NamedTuple):
    """Of B images: posterior mean (B, K) and covariance (B, K, K) of z, and the scale a (B, 1) of the mean."""

    z: Tensor
    covariance: Tensor
    scale: Tensor


class Variability:
    """Probabilistic PCA of volumes: y = C · slice(a V₀ + Σⱼ zⱼ Vⱼ) + noise, z ~ N(0, 1), a ~ N(1, 0.1²).

    As in EM z is read off the images by its posterior, and images are inserted with weights z. But no noise meets
    itself: the images of a half-set are read against the volumes of the other, and each of two random halves of an
    image's coefficients is inserted with the z that the other half says. So the FSC between the half-sets' components,
    which filters them, counts signal alone, and a component of noise fades. Tipping & Bishop, J. R. Stat. Soc. B 61
    (1999); Punjani & Fleet, J. Struct. Biol. 213 (2021); what is crossed is ours.
    """

    def __init__(
        self, images: WorkingImages, poses: Pose, halves: Halves, noise: Tensor, band: float, mask: Tensor, team: Team
    ):
        self.images, self.poses, self.halves, self.team = images, poses, halves, team
        self.noise, self.band, self.mask = noise.to(images.device, copy=True), band, mask
        self.group = point_group("C1")
        drawn = torch.rand(images.lattice.count(band), generator=Generator().manual_seed(0))
        self.coefficients = [(drawn < 0.5).to(self.noise), (drawn >= 0.5).to(self.noise)]

    def components(self, count: int, generator: Generator, progress: Callable[[int, int], None]) -> list[Volumes]:
        """Mean and components of both half-sets, the strongest first: `count`, or as many as the half-sets agree on."""
        learned = [half[:: -(-len(half) // (_LEARNED_FROM // 2))] for half in self.halves]
        mean = self._mean(learned)
        self.mask = molecule_mask(mean, _MASK_BAND, self.mask)
        first = torch.randn(count + _SPARE, *mean.shape, generator=generator).to(self.mask) * self.mask
        volumes = [Volumes(mean, first * (_FIRST_PART * mean.std() / first.std()))] * 2
        for i in range(_ITERATIONS):
            progress(i, _ITERATIONS)
            if not len(volumes[0].components):
                break
            before, volumes = volumes, self.step(volumes, learned, i < _FIRST)
            if i > _FIRST and _unknown(volumes, before) < _STILL:
                break
        progress(_ITERATIONS, _ITERATIONS)
        return [Volumes(mean, components[:count]) for mean, components in volumes]

    def latents(self, volumes: list[Volumes], count: int) -> tuple[Tensor, Tensor]:
        """Mean and log variance (N, count) of the z of all particles; N(0, 1) where there is no component."""
        n, k = len(self.images), len(volumes[0].components)
        mean, variance = torch.zeros(n, k), torch.zeros(n, k)
        for half, other in zip(self.halves, reversed(volumes), strict=True):
            projectors = self._projectors(other)
            for index in self.images.chunks(self.team.share(half)):
                _, evidence, moved, slices = self._seen(projectors, index)
                found = read(slices, moved, evidence.power)
                mean[index], variance[index] = found.z.cpu(), found.covariance.diagonal(dim1=1, dim2=2).cpu()
        mean, variance = self.team.add([mean, variance])
        missing = (0, count - k)
        return pad(mean, missing), pad(variance.clamp(min=1e-8).log(), missing)

    def step(self, volumes: list[Volumes], halves: list[Tensor], first: bool = False) -> list[Volumes]:
        """One iteration over some images of both half-sets; the noise follows what is left unexplained."""
        count, device = len(volumes[0].components), self.images.device
        moments = torch.zeros(2, count, count, device=device)
        left = torch.zeros(self.images.lattice.count(self.band), device=device)
        empty = partial(SliceSums.zeros, self.images.box, self.band, self.group, device)
        sums = [[empty() for _ in range(count)] for _ in halves]
        for half, of_half, other in zip(halves, sums, reversed(volumes), strict=True):
            projectors = self._projectors(other)
            for index in self.images.chunks(self.team.share(half)):
                rotation, evidence, moved, slices = self._seen(projectors, index)
                found = read(slices, moved, evidence.power)
                for mine, its in zip(self.coefficients, reversed(self.coefficients), strict=True):
                    said = read(slices, moved * its, evidence.power * its)
                    differs = mine * (moved - said.scale * evidence.power * slices[:, 0])
                    for z, total in zip(said.z.T[..., None], of_half, strict=True):
                        total.add(differs * z, mine * evidence.power * z.square(), rotation, evidence.lattice)
                    moments[0] += 0.5 * said.z.T @ said.z
                moments[1] += found.z.T @ found.z + found.covariance.sum(0)
                left += unexplained(slices, moved, evidence, found)
        moments, left = self.team.add([moments, left])
        sums = [[total.all_reduced(self.team) for total in of_half] for of_half in sums]
        n = sum(map(len, halves))
        self._weigh(left / n)
        return self._maximised(volumes, sums, moments / n, first)

    def _weigh(self, left: Tensor) -> None:
        """Noise by shell times what was left of the images (P,) in units of it."""
        ratio = self.images.lattice.prefix(self.band).shell_mean(left)
        last = int(self.band)
        self.noise[1 : last + 1] *= ratio[1 : last + 1].clamp(min=1e-6)

    def _mean(self, halves: list[Tensor]) -> Tensor:
        given = (self.poses, self.noise, self.group, self.team)
        first, second = (insert_at_poses(self.images, half, *given) for half in halves)
        flat = torch.full_like(self.noise, 1e4)
        fsc = fourier_shell_correlation(*(s.volume(flat) * self.mask for s in (first, second)))
        return (first + second).volume(2 * signal_to_noise(fsc)) * self.mask

    def _maximised(
        self, before: list[Volumes], sums: list[list[SliceSums]], moments: Tensor, first: bool
    ) -> list[Volumes]:
        """New components of both halves, filtered; moments: (2, K, K), means of ẑ ẑᵀ as inserted, and of z zᵀ."""
        flat = torch.full_like(self.noise, 1e4)
        low = torch.where(torch.arange(len(flat), device=flat.device) <= _FIRST_BAND, flat, 1e-3)
        made = []
        for pair in zip(*sums, strict=True):
            fsc = fourier_shell_correlation(*(s.volume(flat) * self.mask for s in pair)).clamp(*_FSC)
            ssnr = low if first else fsc / (1 - fsc)
            made.append(torch.stack([s.volume(ssnr) * self.mask for s in pair]))
        volumes = torch.stack(made, 1)
        if not first:
            alive = _alike(volumes) > _ALIKE
            volumes, moments = volumes[:, alive], moments[:, alive][:, :, alive]
        inserted, true = moments
        # Each was made of its own ẑ alone, ⟨r ẑᵀ⟩ diag⟨ẑ²⟩⁻¹: to ⟨r ẑᵀ⟩ ⟨ẑ ẑᵀ⟩⁻¹, and to z of unit covariance.
        values, vectors = torch.linalg.eigh(true)
        root = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T
        volumes = _mixed(volumes, inserted.diagonal()[:, None] * torch.linalg.solve(inserted, root))
        # Noise of the half-sets is independent: products across them weigh signal alone.
        flattened = volumes.flatten(2)
        gram = flattened[0] @ flattened[1].T
        power, vectors = (part.flip(-1) for part in torch.linalg.eigh(gram + gram.T))
        volumes = _mixed(volumes, vectors if first else vectors[:, power > _LEAST * power.sum().clamp(min=0)])
        if first:
            strength = volumes.flatten(2).std(2) / before[0].mean.std()
            volumes = volumes * (_FIRST_PART / strength.clamp(min=1e-6))[..., None, None, None]
        return [Volumes(old.mean, new) for old, new in zip(before, volumes, strict=True)]

    def _projectors(self, volumes: Volumes) -> list[FourierSlice]:
        return [FourierSlice.of_volume(v, PAD, self.band) for v in (volumes.mean, *volumes.components)]

    def _seen(self, projectors: list[FourierSlice], index: Tensor) -> tuple[Tensor, Evidence, Tensor, Tensor]:
        """Rotations (B, 3, 3), evidence, centred images (B, P) and slices (B, 1 + K, P) of some particles."""
        evidence = self.images.evidence(index, self.noise, self.band)
        evidence.power[:, 0] = 0
        pose = self.poses.select(index)
        rotation = pose.best_rotation.float().to(self.images.device)
        moved = evidence.centred(pose.best_shift.float().to(self.images.device) / self.images.pixel_size)
        slices = torch.stack([p.project(rotation, evidence.lattice) for p in projectors], 1)
        return rotation, evidence, moved, slices


def read(slices: Tensor, moved: Tensor, power: Tensor) -> Read:
    """Posterior of (a, z) of B images: slices (B, 1 + K, P) of mean and components, moved C y/σ² and power (B, P)."""
    flat = real_pairs(slices)
    weighted = flat * power.repeat_interleave(2, -1)[:, None]
    precision = 2 * weighted @ flat.transpose(1, 2)
    prior = torch.ones(slices.shape[1], device=slices.device)
    prior[0] = 2 * SCALE_PRIOR
    target = 2 * (flat @ real_pairs(moved)[..., None])[..., 0]
    target[:, 0] += prior[0]
    covariance = torch.linalg.inv(precision + torch.diag(prior))
    found = (covariance @ target[..., None])[..., 0]
    return Read(found[:, 1:], covariance[:, 1:, 1:], found[:, :1])


def unexplained(slices: Tensor, moved: Tensor, evidence: Evidence, found: Read) -> Tensor:
    """Σ over B images of |y − C (a F₀ + Σⱼ zⱼ Fⱼ)|² / σ², (P,)."""
    said = (torch.cat([found.scale, found.z], 1)[..., None] * slices).sum(1)
    cross = said.real * moved.real + said.imag * moved.imag
    return (evidence.image_power - 2 * cross + evidence.power * said.abs().square()).sum(0)


def _alike(volumes: Tensor) -> Tensor:
    """Correlation (K,) between components (2, K, D, D, D) of the half-sets; 0 where there is nothing."""
    return cosine_similarity(*volumes.flatten(2), dim=1)


def _mixed(volumes: Tensor, mix: Tensor) -> Tensor:
    """Components (2, K, D, D, D) times a matrix (K, K)."""
    return torch.einsum("hkzyx,kj->hjzyx", volumes, mix)


def _unknown(volumes: list[Volumes], before: list[Volumes]) -> float:
    """Part of the components' power that lies outside what earlier ones span."""
    new, old = (torch.stack([v.components for v in pair]).flatten(2).mean(0) for pair in (volumes, before))
    basis = torch.linalg.qr(old.T).Q
    outside = new - (new @ basis) @ basis.T
    return float(outside.square().sum() / new.square().sum().clamp(min=1e-30))
