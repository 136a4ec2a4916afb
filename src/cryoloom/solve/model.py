"""The parts that together predict images: a field, and what infers poses and conformations, on one device."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel
from pydantic import Field as Setting
from torch import Tensor, nn

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.latent import ConformationModel, Latent
from cryoloom.model.fields.field import Field
from cryoloom.model.objective import Misfit, least_misfit
from cryoloom.model.poses.inference import PoseModel
from cryoloom.model.poses.search import has_fast_bf16
from cryoloom.model.poses.widths import PoseWidths
from cryoloom.physics.fourier import FrequencyLattice
from cryoloom.physics.pose import Pose
from cryoloom.physics.project import FourierSlice
from cryoloom.solve.em.sums import PAD
from cryoloom.solve.images import WorkingImages


class ComputeSettings(BaseModel, extra="forbid"):
    """How the arithmetic of training is done."""

    precision: Literal["auto", "f32", "bf16"] = Setting(
        default="auto", description="Of the field's network: f32, bf16, or auto (bf16 where the hardware has it)."
    )
    compile: bool = Setting(default=False, description="Compile the field's network with torch.compile.")


class Prediction(NamedTuple):
    """What the parts make of B particles: pose, K hypotheses each, latent or None, and how far they miss the images.

    Of a prediction with gradients the misfit is that of the best hypothesis alone, and its number 0.
    """

    pose: Pose
    latent: Latent | None
    misfit: Misfit


class Model:
    """Parts by name: "field" always, "encoder" where images are read, "poses" where a module knows them, "widths" where
    it says how well, "conformation" where there is a z.
    """

    def __init__(self, images: WorkingImages, parts: Mapping[str, nn.Module], compute: ComputeSettings):
        self.images = images
        self.parts = {name: part.to(images.device) for name, part in parts.items()}
        self.bf16 = compute.precision == "bf16" or (compute.precision == "auto" and has_fast_bf16(images.device))
        if compute.compile:
            self.field.compile_network()

    @property
    def field(self) -> Field:
        """The volume that is fitted."""
        field = self.parts["field"]
        assert isinstance(field, Field)
        return field

    @property
    def conformation(self) -> ConformationModel | None:
        """What infers z, where there is one."""
        model = self.parts.get("conformation")
        assert model is None or isinstance(model, ConformationModel)
        return model

    def map(self, band: float | None = None, z: Tensor | None = None) -> Tensor:
        """The field's map (D, D, D) of a conformation z (Z,), else z = 0, up to a band, as the images have it."""
        if z is None and self.conformation is not None:
            z = torch.zeros(self.conformation.z_dim, device=self.images.device)
        with self._autocast(), torch.no_grad():
            return self.field.volume(band, z)

    @property
    def poses(self) -> PoseModel:
        """What knows or infers the poses, in a fit that has it."""
        model = self.parts["poses"]
        assert isinstance(model, PoseModel)
        return model

    @property
    def widths(self) -> PoseWidths | None:
        """What says how well poses are known, where there is such a part."""
        part = self.parts.get("widths")
        assert part is None or isinstance(part, PoseWidths)
        return part

    def batch(self, index: Tensor, noise: Tensor, band: float, read: bool = True, pose: Pose | None = None) -> Batch:
        """The particles at `index` up to a band, with the features of the encoder where they are to be `read`.

        Where no part says poses and they are known, `pose` (B, 1, …), the encoder reads images centred, as C y / σ².
        """
        lattice = self.images.lattice.prefix(band)
        spectrum = self.images.spectrum(index)[:, : len(lattice)]
        batch = Batch(index, spectrum, self.images.evidence_of(spectrum, index, noise.to(lattice.k), lattice))
        if not read or "encoder" not in self.parts:
            return batch
        seen = spectrum
        if pose is not None and "poses" not in self.parts:
            seen = batch.evidence.centred(pose.best_shift.to(self.images.device) / self.images.pixel_size)
        return batch.read(self.features(Batch(index, seen, batch.evidence)))

    def features(self, batch: Batch) -> Tensor:
        """What the encoder reads (B, V, F) off the spectra of a batch."""
        with self._autocast():
            return self.parts["encoder"](batch)

    def predict(
        self,
        batch: Batch,
        pose: Pose | None,
        noise: Tensor | None,
        latent: Latent | None = None,
        still: "Still | None" = None,
        moved: Tensor | None = None,
    ) -> Prediction:
        """What the parts make of a batch: at `pose` and `latent`, else at what the model infers.

        still: of the field as it is, where there is one. moved: (B, 5) standard normal noise by which poses that the
        model infers are drawn from their widths.
        """
        device = self.images.device
        at: Pose = self.poses(batch) if pose is None else pose
        if moved is not None and self.widths is not None:
            at = self.widths.drawn(batch, at, moved.to(device))
        if latent is None and self.conformation is not None and noise is not None:
            latent = self.conformation(batch, noise.to(device))
        rotation, shift = at.rotation.to(device), at.shift.to(device)
        z = None if latent is None else latent.z
        if rotation.shape[1] > 1:
            with torch.no_grad():
                seen = (still or Still(self, batch.lattice))(rotation, batch.lattice, z)
                misfit = self._misfit(seen, shift, z, batch)
            if not torch.is_grad_enabled():
                return Prediction(at, latent, misfit)
            # Only the best hypothesis has a gradient: the others need no way back.
            best = misfit.best
            rotation, shift = (part[torch.arange(len(best)), best][:, None] for part in (rotation, shift))
        slices = self.slices(rotation, batch.lattice, z)
        return Prediction(at, latent, self._misfit(slices, shift, z, batch))

    def slices(self, rotation: Tensor, lattice: FrequencyLattice, z: Tensor | None) -> Tensor:
        """Slices (B, K, P) of the field at rotations (B, K, 3, 3), for conformations z (B, Z)."""
        with self._autocast():
            return self.field.slices(rotation, lattice.k, z)

    def _misfit(self, slices: Tensor, shift: Tensor, z: Tensor | None, batch: Batch) -> Misfit:
        return least_misfit(slices, shift / self.images.pixel_size, batch.evidence, scaled=z is not None)

    def latent(self, batch: Batch) -> Latent:
        """What the conformation model says of a batch, z at its mean."""
        model = self.conformation
        assert model is not None
        return model(batch, torch.zeros(len(batch), model.z_dim, device=self.images.device))

    def renderer(self, pose: Pose, lattice: FrequencyLattice) -> Callable[[Tensor], Tensor]:
        """What gives the slices (B, P) of conformations z (B, Z) at the poses of B particles, in full precision."""
        rotation = pose.rotation[:, :1].to(self.images.device)
        return lambda z: self.field.slices(rotation, lattice.k, z)[:, 0]

    def infer(self, batch: Batch) -> Prediction:
        """What the parts make of a batch at the mean of its latent."""
        z_dim = 0 if self.conformation is None else self.conformation.z_dim
        return self.predict(batch, None, torch.zeros(len(batch), z_dim) if z_dim else None)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.images.device.type, dtype=torch.bfloat16, enabled=self.bf16)


class Still:
    """Slices of a field as it is, without gradients, up to the band of a lattice.

    Where they hold more points than a map of one volume, the field is asked for that, once, and they are the map's.
    """

    def __init__(self, model: Model, lattice: FrequencyLattice):
        self.model, self.band = model, float(lattice.radius.max())

    @cached_property
    def volume(self) -> FourierSlice:
        """The map, from which slices are interpolated."""
        # What lies just beyond the last shell takes part in its interpolation.
        return FourierSlice.of_volume(self.model.map(self.band + 1), PAD)

    @torch.no_grad()
    def __call__(self, rotation: Tensor, lattice: FrequencyLattice, z: Tensor | None = None) -> Tensor:
        """Slices (B, K, P) at rotations (B, K, 3, 3), for conformations z (B, Z)."""
        points = rotation.shape[:2].numel() * len(lattice)
        if self.model.conformation is not None or points < self.model.images.box**3 / 4:
            return self.model.slices(rotation, lattice, z)
        return self.volume.project(rotation.flatten(0, 1), lattice).unflatten(0, rotation.shape[:2])


def best_of(made: Prediction) -> Pose:
    """The pose of each particle's best hypothesis, (B, 1)."""
    rows = torch.arange(len(made.misfit.best), device=made.pose.rotation.device)
    best = made.misfit.best.to(rows.device)
    return Pose.single(made.pose.rotation[rows, best], made.pose.shift[rows, best])
