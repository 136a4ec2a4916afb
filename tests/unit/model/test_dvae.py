"""The DVAE: whole movies at once, in any order of rows, and the per-frame VAE as its starting point."""

import pytest
import torch
from torch import Tensor

from cryoloom.model.batch import Batch
from cryoloom.model.conformation.dvae import DVAE, DynamicsSettings
from cryoloom.model.movie_grid import MovieGrid

FEATURES, Z = 6, 2
# Movies of 4, 1 and 3 frames, rows shuffled, and a frame missing in the first.
MOVIE = torch.tensor([2, 0, 1, 0, 2, 0, 2, 0])
FRAME = torch.tensor([5, 1, 0, 0, 3, 4, 4, 3])


def dvae(prior: str = "normal", seed: int = 0) -> DVAE:
    made = DVAE(
        FEATURES, Z, DynamicsSettings(hidden=5, prior=prior), (MOVIE, FRAME), torch.Generator().manual_seed(seed)
    )
    # Beyond its start, where frames do not yet hear of each other.
    torch.nn.init.normal_(made.combiner[-1].weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return made


def batch_of(features: Tensor, index: Tensor | None = None) -> Batch:
    index = torch.arange(len(features)) if index is None else index
    nothing = torch.zeros(len(features), 0)
    return Batch(index, nothing, None, features[:, None])  # type: ignore[arg-type]


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(8, FEATURES, generator=generator), torch.randn(8, Z, generator=generator)


def test_the_grid_puts_frames_in_order_and_gives_them_back():
    grid = MovieGrid.of(MOVIE, FRAME)
    assert grid.lengths.tolist() == [4, 1, 3]
    assert grid.column.tolist() == [2, 1, 0, 0, 0, 3, 1, 2]
    values = torch.arange(8.0)[:, None]
    assert grid.filled(values)[0, :, 0].tolist() == [3, 1, 7, 5]
    assert torch.equal(grid.read(grid.filled(values)), values)
    # Frame 2 of the first movie is missing.
    assert grid.gap[0].tolist() == [1, 1, 2, 1]


@pytest.mark.parametrize("prior", ["normal", "transition"])
def test_movies_do_not_hear_of_each_other(prior, drawn):
    features, noise = drawn
    together = dvae(prior)(batch_of(features), noise)
    for movie in range(3):
        rows = torch.nonzero(movie == MOVIE)[:, 0]
        alone = dvae(prior)(batch_of(features[rows], rows), noise[rows])
        for whole, part in zip(together, alone, strict=True):
            assert torch.allclose(whole[rows], part, atol=1e-6)


def test_the_order_of_rows_says_nothing(drawn):
    features, noise = drawn
    mixed = torch.tensor([3, 7, 0, 5, 1, 6, 2, 4])
    straight, turned = dvae()(batch_of(features), noise), dvae()(batch_of(features[mixed], mixed), noise[mixed])
    assert torch.allclose(straight.z[mixed], turned.z, atol=1e-6)


def test_every_frame_hears_of_all_frames_of_its_movie(drawn):
    features, noise = drawn
    features.requires_grad_()
    made = dvae()(batch_of(features), noise)
    (gradient,) = torch.autograd.grad(made.mean[1].sum(), features)
    assert ((gradient.abs().sum(1) > 0) == (MOVIE == 0)).all()
    # z of the frame before enters, too.
    other = noise.clone()
    other[3] += 1
    moved = dvae()(batch_of(features), other)
    assert not torch.allclose(made.mean[1], moved.mean[1])
    assert torch.equal(made.mean[3], moved.mean[3])


def test_it_starts_as_the_vae_of_single_frames(drawn):
    features, noise = drawn
    made = DVAE(FEATURES, Z, DynamicsSettings(prior="normal"), (MOVIE, FRAME), torch.Generator().manual_seed(0))
    alone = made.frames(batch_of(features), noise)
    for whole, part in zip(made(batch_of(features), noise), alone, strict=True):
        assert torch.allclose(whole, part, atol=1e-6)


def test_the_transition_prior_expects_what_came_before(drawn):
    features, noise = drawn
    made = dvae("transition")
    assert made.transition is not None
    torch.nn.init.normal_(made.transition.layers[-1].weight, std=0.5)
    latent = made(batch_of(features), noise)
    move, log_var = made.transition.layers(latent.z[1]).detach().chunk(2)
    # Row 7 follows row 1 after a gap of two frames, row 3 is the first of its movie.
    after = (7, latent.z[1] + 2 * move, 2 * log_var.exp())
    for row, mean, variance in (after, (3, torch.zeros(Z), torch.ones(Z))):
        here = torch.distributions.Normal(latent.mean[row], (0.5 * latent.log_var[row]).exp())
        there = torch.distributions.Normal(mean, variance.sqrt())
        expected = torch.distributions.kl_divergence(here, there).sum()
        assert torch.allclose(latent.kl[row], expected, rtol=1e-4)


def test_weights_follow_from_the_generator():
    one, same, other = dvae(), dvae(), dvae(seed=1)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
    assert not torch.equal(one.recurrent.weight_hh_l0, other.recurrent.weight_hh_l0)
    assert "movie" not in one.state_dict()
