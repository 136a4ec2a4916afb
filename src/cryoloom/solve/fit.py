"""The one gradient loop: stages of passes over mini-batches, resumable at any batch."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cryoloom.data.mrc import write_volume
from cryoloom.model.batch import Batch
from cryoloom.model.coefficients import DrawnCoefficients
from cryoloom.model.conformation.latent import Latent
from cryoloom.model.poses.search import PoseSearch
from cryoloom.model.poses.widths import NUMBERS
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.pose import Pose
from cryoloom.physics.so3 import random_rotations
from cryoloom.solve.batches import Batches
from cryoloom.solve.components import AmongConformations, ConformationMaps, conformation_maps, of_components
from cryoloom.solve.descent import Descent
from cryoloom.solve.em.masks import soft_sphere
from cryoloom.solve.images import first_noise
from cryoloom.solve.latents import Latents, agreement, prior, read_latents, read_widths, said_or_taught, settled
from cryoloom.solve.model import Model, Still
from cryoloom.solve.placing import Placing
from cryoloom.solve.rehearsal import Rehearsed, rehearse
from cryoloom.solve.scope import Scope
from cryoloom.solve.session import Session
from cryoloom.solve.stages import Stage
from cryoloom.solve.warm import NOTHING, Begun

SEARCH_CHUNK = 512
SETTLE_CHUNK = 64
SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass(frozen=True)
class FitState:
    """Where a fit is, and what it knows beside its networks' weights.

    stage, done: passes `done` of stage number `stage` are over. at: images of the pass under way that are over, in
    `order` (n,). turn: (3, 3) of the search grid. poses: of all N particles, one hypothesis each. noise: (D/2,) power
    per coefficient by shell. loss: sum over the pass of the misfit per coefficient; squares: of |y − C F|² and |y|²,
    (2, P); kl: of the conformations' KL. z: what is stored of the conformations of all N particles. maps: of several
    conformations, from when they are made until poses were searched at them.
    All of it is in the memory of the CPU.
    """

    stage: int
    done: int
    at: int
    order: Tensor
    turn: Tensor
    poses: Pose
    noise: Tensor
    loss: float
    squares: Tensor
    kl: float
    z: Latents
    maps: ConformationMaps


class Fit:
    """A model fitted to images by stages.

    The weights and the optimisers' moments change in place; everything else that changes is a `FitState`.
    movie: (N,) of each particle, where batches are to hold whole movies. begun: what an earlier run left.
    """

    def __init__(
        self,
        model: Model,
        stages: list[Stage],
        session: Session,
        scope: Scope,
        movie: Tensor | None = None,
        begun: Begun = NOTHING,
    ):
        self.begun = begun
        self.model, self.images, self.session = model, model.images, session
        self.stages = [stage for stage in stages if stage.passes]
        self.team = session.team
        self.batches = Batches(len(self.images), movie)
        self.searches = [
            PoseSearch(s.search, self.images.lattice, scope.group, scope.shift_px)
            if s.search is not None and s.poses == "search"
            else None
            for s in self.stages
        ]
        self.scope = scope
        self.mask = soft_sphere(self.images.box, scope.radius_px, device=self.images.device)
        self.descent = Descent(model.parts, session.team)
        self.cpu_lattice = FrequencyLattice.of_box(self.images.box)
        self._seen = time.monotonic()

    def start(self, poses: Pose | None = None) -> FitState:
        """Where the stages begin: at given poses of all particles, or random ones."""
        n = len(self.images)
        if poses is None:
            poses = Pose.single(random_rotations(n, self.session.beginning))
        poses = Pose.single(poses.best_rotation.float().clone(), poses.best_shift.float().clone())
        noise = first_noise(self.images).cpu() if self.begun.noise is None else self.begun.noise.clone()
        nothing, z = torch.zeros(0), prior(n, self.model)
        where = (0, 0, 0, nothing.long(), torch.eye(3))
        return FitState(*where, poses, noise, 0.0, nothing, 0.0, z, ConformationMaps.none())

    def run(self, state: FitState) -> FitState:
        """Carry out the stages from `state`, or what an earlier session left of them."""
        saved = self.session.saved("fit", FitState, "cpu")
        if saved is not None:
            state = saved
            for name, part in self.model.parts.items():
                part.load_state_dict(self.session.saved("parts", dict)[name])
            self.descent.load_state_dict(self.session.saved("optimisers", dict))
        while state.stage < len(self.stages):
            state = self._pass(state)
        return state

    def latents(self, state: FitState) -> Latents:
        """Every particle's conformation: as stored where the last stage settled it, else as the model says.

        What a model was taught is kept where it cannot say it.
        """
        last, given = self.stages[-1], (state.poses, state.noise)
        if last.z == "settle":
            return state.z
        said = read_latents(self.model, last, *given, self.batches.pieces(SEARCH_CHUNK), self.session.progress)
        if last.z != "taught" or not state.z.mean.any():
            return said
        return said_or_taught(self.model, last, state.poses, said, state.z, state.noise)

    def widths(self, state: FitState) -> Tensor | None:
        """Widths (N, 5) of every pose, of its rotation in radians and its shift in Å, where they are read."""
        if self.model.widths is None or self.stages[-1].poses != "infer":
            return None
        pieces = self.batches.pieces(SEARCH_CHUNK)
        return read_widths(self.model, self.stages[-1], state.noise, pieces, self.session.progress)

    def agreement(self, state: FitState, latents: Latents) -> Tensor:
        """How far (N,) every image agrees with what is predicted of it, in standard deviations of pure noise."""
        return agreement(self.model, self.stages[-1], state.poses, latents, state.noise, self.session.progress)

    # Passes

    def _pass(self, state: FitState) -> FitState:
        """One pass over a stage's images, or what an earlier session left of it."""
        stage = self.stages[state.stage]
        kind = stage.passes[state.done]
        if state.at == 0:
            state = self._begin(state, stage, kind)
        started, before = time.monotonic(), state.at
        works = {"train": self._train, "settle": self._settle, "components": self._components, "maps": self._maps}
        work = works.get(kind, self._place)
        state = work(state, stage)
        speed = (state.at - before) / max(time.monotonic() - started, 1e-6)
        return self._finish(state, stage, kind, speed)

    def _begin(self, state: FitState, stage: Stage, kind: str) -> FitState:
        g = self.session.generator
        order = state.order
        if state.done == 0:
            order = self.batches.drawn(stage.images, g)
            if stage.reset:
                self._write_map("before_reset")
                self._reset(g)
        turn = random_rotations(1, g)[0]
        order = self.batches.shuffled(order, g) if kind == "train" else self.batches.sorted(order)
        squares = torch.zeros(2, self.images.lattice.count(stage.band))
        noise = self._weighted(state.noise, stage)
        return replace(state, order=order, turn=turn, noise=noise, loss=0.0, squares=squares, kl=0.0)

    def _reset(self, generator: torch.Generator) -> None:
        self.model.field.reset(generator)
        self.descent.reset()

    @torch.no_grad()
    def _write_map(self, name: str) -> None:
        """The field's whole map into volumes/: what a reset changes shows beyond the band that was trained."""
        volume = self.model.map()
        if self.team.leads:
            write_volume(self.session.run.path / "volumes" / f"{name}.mrc", volume, self.images.pixel_size)

    def _train(self, state: FitState, stage: Stage) -> FitState:
        self.descent.begin(stage)
        step = self._prior_step if stage.poses == "prior" else self.step
        if stage.poses == "rehearsed":
            step = partial(self._rehearsal_step, Still(self.model, self.images.lattice.prefix(stage.band)))
        while state.at < len(state.order):
            index = self.batches.next(state.order, state.at, stage.batch_size)
            state = self._keep(step(state, stage, index), stage)
        return state

    def step(self, state: FitState, stage: Stage, index: Tensor) -> FitState:
        """One gradient step on the particles at `index`."""
        g, mine = self.session.generator, self.batches.mine(index, self.team)
        drawn = random_rotations(len(index), g)[mine] if stage.poses == "random" else None
        noise = None
        if self.model.conformation is not None and stage.z != "none":
            noise = torch.randn(len(index), self.model.conformation.z_dim, generator=g)[mine]
        read = (noise is not None and stage.z in ("model", "taught")) or stage.poses == "model"
        stored = state.poses.select(index[mine]) if drawn is None else Pose.single(drawn)
        known = None if stage.poses == "model" else stored
        batch = self.model.batch(index[mine], state.noise, stage.band, read, known)
        latent = None
        # Where images differ in no component there is nothing to teach: the encoder is by itself.
        alone = stage.z == "model" or (stage.z == "taught" and not state.z.mean.any())
        if noise is not None and not alone:
            mean, log_var = (part[index[mine]].to(self.images.device) for part in state.z)
            latent = Latent.drawn(mean, log_var, noise.to(self.images.device))
            if stage.z == "taught":
                latent = latent._replace(kl=self.model.latent(batch).divergence(latent))
        compared, kept = self._compared(batch, stage)
        still = Still(self.model, batch.lattice)
        widths = self.model.widths if stage.poses == "model" else None
        moved = None if widths is None else torch.randn(len(index), NUMBERS, generator=g)[mine]
        made = self.model.predict(compared, known, noise, latent, still, moved)
        kl = made.latent.kl if made.latent is not None else made.misfit.total.new_zeros(len(batch))
        price = made.misfit.total + stage.beta * kl
        if stage.poses == "model":
            price = price + stage.penalty * self.model.poses.penalty(batch, made.pose)
        if widths is not None:
            price = price + widths.price(batch)
        if stage.rehearsal:
            z = None if made.latent is None else made.latent.z.detach()
            rehearsed = self._rehearsed(index, batch.lattice, state.noise, partial(still, z=z))
            price = price + stage.rehearsal * rehearsed
        self.descent.step(price.sum() / (len(index) * len(batch.lattice)), stage)
        squares = batch.evidence.image_power.new_zeros(2, len(batch.lattice))
        squares[:, kept] = torch.stack([made.misfit.by_coefficient.sum(0), compared.evidence.image_power.sum(0)])
        totals = torch.stack([made.misfit.total.detach().sum() / len(batch.lattice), kl.detach().sum()])
        totals, squares = self.team.add([totals, squares])
        return replace(
            state,
            at=state.at + len(index),
            loss=state.loss + float(totals[0]),
            squares=state.squares + squares.cpu() * self.cpu_lattice.prefix(stage.band).from_shells(state.noise),
            kl=state.kl + float(totals[1]),
        )

    def _compared(self, batch: Batch, stage: Stage) -> tuple[Batch, Tensor | slice]:
        """What of a batch a step compares with its prediction, and which coefficients (Q,) that is."""
        if stage.coefficients == 1:
            return batch, slice(None)
        radius = self.cpu_lattice.prefix(stage.band).radius
        drawn = DrawnCoefficients.of(radius, stage.coefficients, self.session.generator)
        return batch.thinned(*drawn.to(self.images.device)), drawn.kept

    def _prior_step(self, state: FitState, stage: Stage, index: Tensor) -> FitState:
        """One gradient step of the poses' part towards what its penalty asks for; no image is predicted."""
        mine = self.team.share(torch.arange(len(index)))
        batch = self.model.batch(index[mine], state.noise, stage.band)
        price = self.model.poses.penalty(batch, self.model.poses(batch))
        self.descent.step(price.sum() / len(index), stage)
        (total,) = self.team.add([price.detach().sum()])
        return replace(state, at=state.at + len(index), loss=state.loss + float(total))

    def _rehearsed(
        self, index: Tensor, lattice: FrequencyLattice, noise: Tensor, still: Callable[..., Tensor]
    ) -> Tensor:
        """What the poses said of as many projections cost, (b,), whose slices `still` gives."""
        mine = self.batches.mine(index, self.team)
        drawn = Rehearsed.drawn(len(index), len(lattice), self.session.generator).select(mine, self.images.device)
        slices = still(drawn.rotation[:, None], lattice)[:, 0]
        return rehearse(self.model, index[mine], lattice, slices, noise, drawn)

    def _rehearsal_step(self, still: Still, state: FitState, stage: Stage, index: Tensor) -> FitState:
        """One gradient step of what reads poses on the field's own projections; no image is looked at."""
        lattice = self.images.lattice.prefix(stage.band)
        price = self._rehearsed(index, lattice, state.noise, still)
        self.descent.step(price.sum() / (len(index) * len(lattice)), stage)
        (total,) = self.team.add([price.detach().sum() / len(lattice)])
        return replace(state, at=state.at + len(index), loss=state.loss + float(total))

    @torch.no_grad()
    def _place(self, state: FitState, stage: Stage) -> FitState:
        """Replace stored poses by what the stage's finder says of every particle."""
        find = self._finder(state, stage)
        while state.at < len(state.order):
            index = self.batches.next(state.order, state.at, SEARCH_CHUNK)
            mine = self.batches.mine(index, self.team)
            found = find(index[mine])
            for whole, part in zip(state.poses, found, strict=True):
                rows = torch.zeros(len(index), *whole.shape[1:])
                rows[mine] = part[:, :1].cpu()
                whole[index] = self.team.add([rows])[0]
            state = self._keep(replace(state, at=state.at + len(index)), stage)
        return replace(state, maps=ConformationMaps.none())

    def _finder(self, state: FitState, stage: Stage) -> Callable[[Tensor], Pose]:
        """What finds poses (b, 1) of the particles at an index (b,)."""
        if stage.poses == "conformations":
            assert stage.search is not None
            how = (stage.search, stage.polish_steps, stage.band, self.scope, state.poses, state.turn)
            return AmongConformations(self.images, state.maps, *how, self.session.run.config.seed)
        place = (self.mask, state.poses, state.z, state.noise, state.turn)
        return Placing(self.model, stage, self.searches[state.stage], *place, self.begun.mask)

    @torch.no_grad()
    def _settle(self, state: FitState, stage: Stage) -> FitState:
        """Replace stored conformations: the best of some candidates for each particle, then Newton steps from there."""
        while state.at < len(state.order):
            index = state.order[state.at : state.at + SETTLE_CHUNK]
            drawn = state.z.draws(len(index), self.session.generator)
            mine = self.team.share(torch.arange(len(index)))
            found = settled(self.model, stage, state.poses, state.z, state.noise, index[mine], drawn[mine])
            for whole, part in zip(state.z, found, strict=True):
                rows = torch.zeros(len(index), whole.shape[1])
                rows[mine] = part.cpu()
                whole[index] = self.team.add([rows])[0]
            state = self._keep(replace(state, at=state.at + len(index)), stage)
        return state

    def _components(self, state: FitState, stage: Stage) -> FitState:
        """Replace stored conformations: by the linear components in which the images differ."""
        z = of_components(self.images, state.poses, state.noise, stage.band, self.mask, state.z, self.session)
        return replace(state, z=z, at=len(state.order))

    def _maps(self, state: FitState, stage: Stage) -> FitState:
        """Make the maps of several conformations at which poses are searched next."""
        many = (state.z.mean.shape[1], stage.representatives)
        given = (self.images, state.poses, state.noise, stage.band, self.mask)
        return replace(state, maps=conformation_maps(*given, *many, self.session), at=len(state.order))

    # Records

    def _keep(self, state: FitState, stage: Stage) -> FitState:
        """Show progress after a batch; now and then save it."""
        done, total = self._work(state, stage)
        self.session.progress(stage.name, done, total, f"band {stage.band:.0f}")
        if time.monotonic() - self._seen > SECONDS_BETWEEN_CHECKPOINTS and state.at < len(state.order):
            self._save(None, state)
        return state

    def _work(self, state: FitState, stage: Stage) -> tuple[int, int]:
        """Images of stages of this name that are over, and of all of them."""
        n = len(self.images)

        def size(s: Stage) -> int:
            return min(s.images or n, n)

        named = [(i, s) for i, s in enumerate(self.stages) if s.name == stage.name]
        over = sum(size(s) * len(s.passes) for i, s in named if i < state.stage)
        return over + state.done * size(stage) + state.at, sum(size(s) * len(s.passes) for _, s in named)

    def _finish(self, state: FitState, stage: Stage, kind: str, speed: float) -> FitState:
        metrics: dict[str, Any] = {"stage": stage.name, "pass": kind, "epoch": state.done, "band": round(stage.band, 2)}
        if kind == "train":
            metrics["loss"] = round(state.loss / state.at, 6)
        if kind == "train" and stage.poses not in ("prior", "rehearsed"):
            left, whole = state.squares[:, 1:].sum(1)
            metrics["unexplained"] = round(float(left / whole), 6)
            if self.model.conformation is not None:
                metrics["kl"] = round(state.kl / state.at, 4)
            state = replace(state, noise=self._noise(state, stage))
        metrics |= {"images": state.at, "images_per_s": round(speed, 1)}
        last = state.done + 1 == len(stage.passes)
        if stage.reset and last:
            self._write_map("after_reset")
        if stage.map_name and last:
            self._write_map(stage.map_name)
        number, done = (state.stage + 1, 0) if last else (state.stage, state.done + 1)
        state = replace(state, stage=number, done=done, at=0)
        self._save(metrics, state)
        return state

    def _noise(self, state: FitState, stage: Stage) -> Tensor:
        """Noise power (D/2,) with what the pass left unexplained in the shells inside its band."""
        lattice = self.cpu_lattice.prefix(stage.band)
        shell = lattice.shell_mean(state.squares[0] / state.at)
        noise = state.noise.clone()
        last = int(stage.band)
        noise[1 : last + 1] = shell[1 : last + 1].clamp(min=1e-6 * float(shell.max()))
        return self._weighted(noise, stage)

    def _weighted(self, noise: Tensor, stage: Stage) -> Tensor:
        """Noise power (D/2,) as a stage weights by it."""
        if stage.noise == "shells":
            return noise
        lattice = self.cpu_lattice.prefix(stage.band)
        return torch.full_like(noise, float(lattice.from_shells(noise)[1:].mean()))

    def _save(self, metrics: dict[str, Any] | None, state: FitState) -> None:
        weights = {name: part.state_dict() for name, part in self.model.parts.items()}
        self.session.save(metrics, fit=state, parts=weights, optimisers=self.descent.state_dict())
        self._seen = time.monotonic()
