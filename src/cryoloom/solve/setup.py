"""What every recipe of a neural system begins and ends with: images, limits and a field; a fit and its results."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from cryoloom.data.particles import Particles
from cryoloom.model.fields.build import build_field
from cryoloom.model.fields.field import Field
from cryoloom.model.fields.settings import FieldSettings
from cryoloom.physics.pose import Pose
from cryoloom.solve.amplitude import signal_amplitude
from cryoloom.solve.em.alarms import SILENT_ENCODER, misread_alarms
from cryoloom.solve.fit import Fit, FitState
from cryoloom.solve.images import WorkingImages, record_outliers
from cryoloom.solve.latents import Latents
from cryoloom.solve.misread import misread_share
from cryoloom.solve.model import ComputeSettings, Model
from cryoloom.solve.results import write_fit
from cryoloom.solve.run import Run
from cryoloom.solve.scope import Scope, ScopeSettings
from cryoloom.solve.session import Progress, Session
from cryoloom.solve.stages import Stage
from cryoloom.solve.team import Team
from cryoloom.solve.warm import Begun


class NeuralSettings(ScopeSettings, FieldSettings):
    """Settings that all neural systems share."""

    compute: ComputeSettings = ComputeSettings()


class Fitted(NamedTuple):
    """The end of a fit: the model with its weights, the last state, and the latents where there is a z."""

    model: Model
    state: FitState
    latents: Latents | None


class Setup:
    """A particle set, the limits of its molecule and the session of a run."""

    def __init__(
        self,
        particles: Particles,
        settings: NeuralSettings,
        run: Run,
        team: Team,
        progress: Progress,
        writes: bool = True,
    ):
        self.particles, self.settings = particles, settings
        self.images = WorkingImages(particles, team.device)
        self.scope = Scope.of(settings, self.images, run.config.symmetry)
        self.session = Session(run, team, progress, writes)
        self.beginning = self.session.beginning

    @property
    def shift_angst(self) -> float:
        """The largest shift of a particle, Å."""
        return self.scope.shift_px * self.images.pixel_size

    def field(self, z_dim: int = 0) -> Field:
        """The field that the settings name, with random weights and scaled to the images."""
        field = build_field(self.settings, self.images.box, self.beginning, z_dim, self.scope.radius_px)
        field.scale_to(signal_amplitude(self.images, self.settings.network.shell_scale).cpu())
        return field

    def fit(
        self,
        parts: Mapping[str, nn.Module],
        stages: list[Stage],
        poses: Pose | None = None,
        movie: Tensor | None = None,
    ) -> Fitted:
        """Fit the parts, from `poses` where they are given, write what comes out, and return the end of it.

        movie: (N,) of each particle, where batches are to hold whole movies.
        """
        model = Model(self.images, parts, self.settings.compute)
        begun = Begun.of_run(self.session.run.config.init, self.images.box)
        fit = Fit(model, stages, self.session, self.scope, movie, begun)
        state = fit.run(fit.start(poses))
        latents = fit.latents(state) if model.conformation is not None else None
        agreement = fit.agreement(state, latents) if latents is not None else None
        widths = fit.widths(state)
        record_outliers(self.images, self.session)
        if self.session.team.leads:
            # Features without a prior need not lie about zero: the map is that of the mean one.
            z = None if latents is None else latents.mean.mean(0).to(self.images.device)
            found = (state.poses, self.settings.contrast, latents, agreement, widths)
            silent = stages[-1].z == "taught" and latents is state.z
            alarms = [SILENT_ENCODER] if silent else []
            if stages[-1].poses == "infer":
                share = misread_share(model, stages[-1], self.scope, fit.mask, state.poses, state.noise)
                alarms += misread_alarms(share)
            write_fit(self.session.run, self.particles, model.map(z=z), fit.mask, *found, alarms)
        return Fitted(model, state, latents)
