"""Refinement by expectation-maximisation with gold-standard half-sets."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from cryoloom.model.poses.evidence import Evidence
from cryoloom.model.poses.polish import Modes, polish, polish_likely
from cryoloom.model.poses.search import PoseSearch, SearchPass
from cryoloom.physics.alignment import refine_volume
from cryoloom.physics.fourier import crossing_shell, fourier_shell_correlation
from cryoloom.physics.project import FourierSlice
from cryoloom.physics.rigid import apply_to_volume
from cryoloom.physics.so3 import angular_distance, nearest_equivalent, random_rotations
from cryoloom.solve.em.grids import search_settings
from cryoloom.solve.em.independent import group_axis, on_box
from cryoloom.solve.em.masks import low_pass, molecule_mask, soft_sphere
from cryoloom.solve.em.pseudosymmetry import Copies, find_copies
from cryoloom.solve.em.sums import PAD, SliceSums
from cryoloom.solve.images import WorkingImages, first_noise
from cryoloom.solve.scope import Scope
from cryoloom.solve.team import Team

# Resolution elements across the molecule up to which modes that a coarse search left a few degrees off find their peak.
_ROUGH_CYCLES = 8.5
# Half-maps share what is coarser than this: they would drift apart as rigid bodies.
_JOINED_CYCLES = 2.8


class RefineSettings(BaseModel, extra="forbid"):
    """Refinement with half-sets: a global search first, then local steps with a band that follows the FSC."""

    iterations: int = Field(
        default=10, ge=0, description="Most iterations; stops earlier when poses and resolution stand still."
    )
    global_iterations: int = Field(
        default=2, ge=0, description="Iterations that search all orientations before local steps only."
    )
    candidates: int = Field(default=8, gt=0, description="Rotations kept from the exhaustive search for each particle.")
    hypotheses: int = Field(
        default=3, gt=0, description="Rotations kept after subdivision and polished for each particle."
    )
    polish_steps: int = Field(default=4, gt=0, description="Newton steps in rotation and shift in each iteration.")
    band_margin: float = Field(default=3.0, ge=0, description="Shells beyond FSC 0.143 that the search may use.")
    copies: bool = Field(
        default=True, description="Try a molecule's approximate symmetries, where it has any, on every particle."
    )
    still_degrees: float = Field(
        default=0.15, gt=0, description="Median change of rotation below which poses stand still."
    )


class ParticlePoses(NamedTuple):
    """The state of every particle: best rotation (N, 3, 3) and shift (N, 2) px, their RMS uncertainties, posterior."""

    rotation: Tensor
    shift: Tensor
    rotation_sigma_deg: Tensor
    shift_sigma_px: Tensor
    max_posterior: Tensor

    @classmethod
    def unknown(cls, n: int) -> "ParticlePoses":
        """Poses of which nothing is known."""
        return cls(
            torch.eye(3).repeat(n, 1, 1), torch.zeros(n, 2), torch.full((n,), 180.0), torch.zeros(n), torch.zeros(n)
        )

    def store(self, index: Tensor, modes: Modes) -> None:
        """Take over what is found of the particles at `index` (B,): modes, the likeliest first."""
        rotation_sigma, shift_sigma = modes.sigma()
        found = (modes.rotation[:, 0], modes.shift[:, 0], rotation_sigma, shift_sigma, modes.weights()[:, 0])
        for whole, part in zip(self, found, strict=True):
            whole[index] = part.cpu()


@dataclass(frozen=True)
class RefineState:
    """What one refinement iteration hands to the next; jumped: share of particles turned by more than 10° in it."""

    iteration: int
    band: float
    noise: Tensor
    maps: tuple[Tensor, Tensor]
    half_maps: tuple[Tensor, Tensor]
    volume: Tensor
    mask: Tensor
    fsc: Tensor
    poses: ParticlePoses
    copies: Copies
    moved_deg: float
    jumped: float
    log_likelihood: float


class Refinement:
    """Half-set refinement of all images of a particle set."""

    def __init__(
        self,
        images: WorkingImages,
        settings: RefineSettings,
        scope: Scope,
        halves: tuple[Tensor, Tensor],
        team: Team,
    ):
        self.images, self.settings, self.scope, self.halves, self.team = images, settings, scope, halves, team
        self.sphere = soft_sphere(images.box, scope.radius_px, device=images.device)
        self.full_band = images.box / 2
        self.join_band = min(scope.band(_JOINED_CYCLES, images.box), images.box / 8)
        self.rough_band = scope.band(_ROUGH_CYCLES, images.box)

    def start(
        self, volumes: tuple[Tensor, Tensor], noise: Tensor, band: float, poses: ParticlePoses | None = None
    ) -> RefineState:
        """Each half-set begins at its own map, low-passed to `band`; maps and noise may be of a smaller box."""
        full = first_noise(self.images)
        known = min(int(band) + 1, len(noise))
        full[:known] = noise[:known]
        first, second = (low_pass(on_box(v, self.images.box), band) * self.sphere for v in volumes)
        poses = poses or ParticlePoses.unknown(len(self.images))
        fsc = torch.zeros(self.images.box // 2)
        return RefineState(
            0,
            band,
            full,
            (first, second),
            (first, second),
            (first + second) / 2,
            self.sphere,
            fsc,
            poses,
            Copies.none(),
            180.0,
            1.0,
            -math.inf,
        )

    def step(self, state: RefineState, search: bool, generator: torch.Generator) -> RefineState:
        """One iteration over all particles: poses against their half's map, then both maps, the noise and the band."""
        turn = random_rotations(1, generator)[0]
        poses = ParticlePoses(*(torch.zeros_like(part) for part in state.poses))
        residual = torch.zeros(len(self.images.lattice), device=self.images.device)
        likelihood = torch.zeros(1)
        sums = []
        for half, volume in zip(self.halves, state.maps, strict=True):
            projector = FourierSlice.of_volume(volume, PAD)
            half_sums = SliceSums.zeros(self.images.box, self.full_band, self.scope.group, self.images.device)
            found = self._search(state).against(projector, turn) if search else None
            for index in self.images.chunks(self.team.share(half)):
                evidence = self.images.evidence(index, state.noise, self.full_band)
                modes = self._poses(projector, found, evidence, state, index)
                half_sums.add_particles(evidence, modes.rotation, modes.shift, modes.weights())
                residual += residual_power(projector, evidence, modes.rotation[:, 0], modes.shift[:, 0])
                likelihood += modes.score[:, 0].sum().cpu()
                poses.store(index, modes)
            sums.append(half_sums.all_reduced(self.team))
        residual, likelihood, *rows = self.team.add([residual, likelihood, *poses])
        n = sum(len(half) for half in self.halves)
        poses = ParticlePoses(*rows)
        before = nearest_equivalent(state.poses.rotation, poses.rotation, self.scope.group)
        moved = angular_distance(poses.rotation, before)
        new = replace(
            state,
            poses=poses,
            moved_deg=float(moved.median()),
            jumped=float((moved > 10).float().mean()),
            log_likelihood=float(likelihood) / n,
        )
        residual = residual * self.images.lattice.from_shells(state.noise) / n
        return self.maximise(new, (sums[0], sums[1]), residual)

    def _search(self, state: RefineState) -> PoseSearch:
        s = self.settings
        settings = search_settings(self.scope, self.images.box, state.band, s.candidates)
        last = self._rough_band(state)
        settings = settings.model_copy(
            update={"hypotheses": s.hypotheses, "subdivisions": 1, "last_band": max(last, settings.first_band)}
        )
        return PoseSearch(settings, self.images.lattice, self.scope.group, self.scope.shift_px)

    def _rough_band(self, state: RefineState) -> float:
        return min(state.band, self.rough_band)

    def _poses(
        self, projector: FourierSlice, search: SearchPass | None, evidence: Evidence, state: RefineState, index: Tensor
    ) -> Modes:
        steps = self.settings.polish_steps
        used = evidence.prefix(state.band)
        rotation, shift = state.copies.poses(state.poses.rotation[index], state.poses.shift[index])
        rotation, shift = rotation.to(self.images.device), shift.to(self.images.device)
        if search is None and rotation.shape[1] == 1:
            return polish(projector, used, rotation, shift, steps)
        if search is not None:
            found = search.best(evidence)
            # Where the last pose has copies, which of them is right matters more than what a coarse search prefers.
            known = rotation.shape[1] > 1
            rotation = torch.cat([found.rotation, rotation], 1) if known else found.rotation
            shift = torch.cat([found.shift, shift], 1) if known else found.shift
        return self.modes(projector, evidence, state, rotation, shift).order()

    def modes(
        self,
        projector: FourierSlice,
        evidence: Evidence,
        state: RefineState,
        rotation: Tensor,
        shift: Tensor,
        least: float = 1e-3,
    ) -> Modes:
        """Where hypotheses (B, K, 3, 3), (B, K, 2) px end: all up to a low band, then those likelier than `least`."""
        used, steps = evidence.prefix(state.band), self.settings.polish_steps
        # Poses that are equal by symmetry are one mode.
        rotation = nearest_equivalent(rotation, rotation[:, :1], self.scope.group)
        rough = used.prefix(self._rough_band(state))
        modes = polish(projector, rough, rotation, shift, steps).distinct()
        return polish_likely(projector, used, modes, steps // 2, least)

    def undecided(self, state: RefineState, index: Tensor) -> float:
        """Mean posterior of the particles at `index` (n,) beside their best pose, against the first half-set's map.

        All orientations are searched. A right map leaves little. A molecule of a symmetry that is not given has equal
        poses, and leaves much.
        """
        projector, own = FourierSlice.of_volume(state.maps[0], PAD), self.team.share(index)
        evidence = self.images.evidence(own, state.noise, self.full_band)
        modes = self._poses(projector, self._search(state).against(projector), evidence, state, own)
        beside = (1 - modes.weights()[:, 0]).sum()
        told = torch.stack([beside, torch.full_like(beside, len(own))])
        total, particles = self.team.add([told])[0].tolist()
        return total / particles

    def in_one_frame(self, state: RefineState) -> RefineState:
        """The state with the second half-set's map and poses turned and moved onto the first's.

        Maps that were found apart lie on one another as exactly as coarse maps can tell. A point group fixes all axes
        but the one of Cn; with any other group nothing is left to turn.
        """
        group, origin = self.scope.group, torch.zeros(3)
        axis = group_axis(group)
        if axis is None:
            return state
        first, second = (low_pass(v, min(state.band, self.rough_band)) for v in state.maps)
        found = refine_volume(second, first, torch.eye(3), False, origin)
        turn, shift = axis.restrict(found.rotation, found.translation)
        poses = ParticlePoses(*(part.clone() for part in state.poses))
        half = self.halves[1]
        poses.rotation[half] = poses.rotation[half] @ turn.T
        poses.shift[half] -= (poses.rotation[half] @ shift)[:, :2]
        maps, half_maps = (
            (pair[0], apply_to_volume(pair[1], turn, False, shift)) for pair in (state.maps, state.half_maps)
        )
        return replace(state, poses=poses, maps=maps, half_maps=half_maps)

    def with_copies(self, state: RefineState) -> RefineState:
        """The state with the approximate symmetries of its map, which the next iterations try on every particle."""
        if not self.settings.copies:
            return state
        copies = find_copies(state.volume * state.mask, crossing_shell(state.fsc, 0.143))
        # What the user's point group says is exact needs no trying.
        return replace(state, copies=copies.beyond(self.scope.group.cpu()))

    def maximise(self, state: RefineState, sums: tuple[SliceSums, SliceSums], residual: Tensor | None) -> RefineState:
        """Maps, mask, FSC, noise and band from both halves' sums; the noise stays where there is no residual (P,)."""
        noise = state.noise.clone()
        if residual is not None:
            shell = self.images.lattice.shell_mean(residual)
            noise[1:] = shell[1:].clamp(min=1e-6 * float(shell.max()))
        flat = torch.full_like(noise, 1e4)
        raw = [s.volume(flat) for s in sums]
        fsc = fourier_shell_correlation(raw[0] * state.mask, raw[1] * state.mask)
        resolved = crossing_shell(fsc, 0.143)
        ssnr = signal_to_noise(fsc)
        maps = [s.volume(ssnr.to(flat)) for s in sums]
        # The whole set holds twice the signal of a half.
        volume = (sums[0] + sums[1]).volume(2 * ssnr.to(flat))
        mask = molecule_mask(volume, min(max(6.0, 0.6 * resolved), 12.0), self.sphere, resolved)
        low = low_pass((maps[0] + maps[1]) / 2, self.join_band)
        maps = [(low + m - low_pass(m, self.join_band)) * mask for m in maps]
        band = min(self.full_band, max(state.band, resolved + self.settings.band_margin))
        return replace(
            state,
            iteration=state.iteration + 1,
            band=band,
            noise=noise,
            maps=(maps[0], maps[1]),
            half_maps=(raw[0], raw[1]),
            volume=volume,
            mask=mask,
            fsc=fsc,
        )


def signal_to_noise(fsc: Tensor) -> Tensor:
    """Spectral SNR of one half-map by shell, FSC / (1 − FSC); shells after the first below 0.05 hold nothing."""
    kept = fsc.clamp(0.0, 0.9999)
    ssnr = kept / (1 - kept)
    lost = torch.cat([torch.zeros(1, dtype=torch.bool), (fsc[1:] < 0.05).cumsum(0) > 0])
    ssnr[lost] = 1e-3
    ssnr[0] = 1e4
    return ssnr


def residual_power(projector: FourierSlice, evidence: Evidence, rotation: Tensor, shift: Tensor) -> Tensor:
    """Σ over B particles of |y − C T|² / σ², (P,), at one pose each, (B, 3, 3) and (B, 2) px."""
    slices = projector.project(rotation, evidence.lattice)
    moved = evidence.centred(shift)
    cross = slices.real * moved.real + slices.imag * moved.imag
    return (evidence.image_power - 2 * cross + evidence.power * slices.abs() ** 2).sum(0)
