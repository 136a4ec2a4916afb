"""DVAE: the conformation of every frame read off its whole movie (structured inference; Ye et al. 2023, §4)."""

from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.latent import ConformationModel, Latent
from cryoloom.model.conformation.vae import VAE
from cryoloom.model.movie_grid import MovieGrid
from cryoloom.model.weights import draw_weights

Prior = Literal["normal", "transition"]
# Log variance of the step between neighbouring frames that a transition starts from.
_FIRST_STEP = -1.5


class DynamicsSettings(BaseModel, extra="forbid"):
    """How the frames of a movie learn of each other."""

    hidden: int = Field(default=64, gt=0, description="Units of the recurrent network, in each direction of time.")
    # Where each frame is expected to be like any other, those around it say nothing of it.
    prior: Prior = Field(
        default="transition",
        description="Of z: transition (learned, given z of the frame before), or normal (N(0, 1) for each frame), as "
        "in the paper.",
    )


class Transition(nn.Module):
    """A learned step from frame to frame: `p(z_t | z_{t−g}) = N(z + g m(z), g s²(z))` with z = z_{t−g} for gaps of g.

    m and log s² (Z,) are those of a small network, as in a deep Markov model (Krishnan et al. 2017, §4); over a gap
    steps add up as those of a diffusion do.
    """

    def __init__(self, z_dim: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(z_dim, hidden), nn.Tanh(), nn.Linear(hidden, 2 * z_dim))

    @torch.no_grad()
    def stand_still(self) -> None:
        """Expect z to stay, within a step of the same width everywhere."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, _FIRST_STEP]).repeat_interleave(len(last.bias) // 2))

    def forward(self, before: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, Z) of z, gaps (B,) after z of the frame before (B, Z)."""
        move, log_var = self.layers(before).chunk(2, -1)
        gap = gap[:, None]
        return before + gap * move, gap * log_var.exp()


class DVAE(ConformationModel):
    """Per-frame features → bidirectional GRU → combiner with z_{t−1} → N(μ_t, σ_t²), frame after frame.

    `(μ_t, log σ_t²) = frames(f_t) + combiner(z_{t−1}, h_t, frames(f_t))` with h = GRU(f_1 … f_T) and z_0 = 0. `frames`
    is the head of the per-frame VAE, and the combiner's last layer starts at zero: before it learns, each frame is read
    as that VAE reads it, so that one's weights can be taken over. KL per frame: to N(0, 1), Ye et al. 2023, eq. 11; or,
    with a transition prior, to the `Transition` from the frame before.
    movie, frame: (N,) of all particles; a batch must hold all particles of each of its movies.
    """

    movie: Tensor
    frame: Tensor

    def __init__(
        self,
        features: int,
        z_dim: int,
        settings: DynamicsSettings,
        movies: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ):
        super().__init__()
        self.z_dim, hidden = z_dim, settings.hidden
        # Not part of the weights: they belong to the particles, not to what is learned from them.
        self.register_buffer("movie", movies[0].clone(), persistent=False)
        self.register_buffer("frame", movies[1].clone(), persistent=False)
        self.frames = VAE(features, z_dim, generator)
        self.recurrent = nn.GRU(features + 1, hidden, batch_first=True, bidirectional=True)
        self.combiner = nn.Sequential(
            nn.Linear(3 * z_dim + 2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * z_dim)
        )
        self.transition = Transition(z_dim, hidden) if settings.prior == "transition" else None
        self.reset(generator)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        draw_weights(self, generator)
        bound = self.recurrent.hidden_size**-0.5
        for weight in self.recurrent.parameters():
            weight.copy_((2 * torch.rand(weight.shape, generator=generator) - 1) * bound)
        for weight in self.combiner[-1].parameters():
            weight.zero_()
        if self.transition is not None:
            self.transition.stand_still()

    def forward(self, batch: Batch, noise: Tensor) -> Latent:
        """The latent of a batch of whole movies whose features are there."""
        assert batch.features is not None
        index = batch.index.to(self.movie.device)
        grid = MovieGrid.of(self.movie[index], self.frame[index])
        features = batch.features[:, 0]
        alone = grid.filled(self.frames.head(features))
        beside = self._hidden(grid, features)
        kicks, before = grid.filled(noise), noise.new_zeros(len(grid.lengths), self.z_dim)
        made = []
        for t in range(kicks.shape[1]):
            moved = self.combiner(torch.cat([before, beside[:, t], alone[:, t]], -1))
            mean, log_var = (alone[:, t] + moved).chunk(2, -1)
            z = mean + (0.5 * log_var).exp() * kicks[:, t]
            made.append(torch.cat([mean, log_var, z, before], -1))
            before = z
        whole = grid.read(torch.stack(made, 1))
        mean, log_var, z, before = whole.chunk(4, -1)
        return Latent(mean, log_var, z, self._kl(mean, log_var, before, grid))

    def _hidden(self, grid: MovieGrid, features: Tensor) -> Tensor:
        """What the recurrent network makes of each frame, (M, T, 2H), having seen those before and after it."""
        told = torch.cat([grid.filled(features), grid.gap.log()[..., None].to(features)], -1)
        packed = pack_padded_sequence(told, grid.lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0]

    def _kl(self, mean: Tensor, log_var: Tensor, before: Tensor, grid: MovieGrid) -> Tensor:
        """KL (B,) of each frame's Gaussian to its prior, in nats."""
        expected, spread = torch.zeros_like(mean), torch.ones_like(mean)
        if self.transition is not None:
            later = (grid.column > 0)[:, None]
            moved, step = self.transition(before, grid.read(grid.gap))
            expected, spread = torch.where(later, moved, expected), torch.where(later, step, spread)
        squares = (log_var.exp() + (mean - expected).square()) / spread
        return 0.5 * (squares - 1 - log_var + spread.log()).sum(-1)
