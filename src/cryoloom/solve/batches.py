"""How a pass over particles is cut into batches: one by one, or movie by movie where frames belong together."""

import torch
from torch import Tensor

from cryoloom.solve.team import Team


class Batches:
    """The order of N particles and its pieces. movie: (N,) of each particle, None where they stand alone.

    A movie is never split: not between batches, not between processes, not by a limit on the images of a stage.
    """

    def __init__(self, n: int, movie: Tensor | None = None):
        self.n, self.movie = n, movie

    def drawn(self, images: int | None, generator: torch.Generator) -> Tensor:
        """Particles of a stage: all, or `images` of them, at random."""
        if self.movie is None:
            return torch.randperm(self.n, generator=generator)[:images]
        order = self.shuffled(torch.arange(self.n), generator)
        return order[: self._end(order, 0, images or self.n)]

    def shuffled(self, order: Tensor, generator: torch.Generator) -> Tensor:
        """The same particles in another order."""
        if self.movie is None:
            return order[torch.randperm(len(order), generator=generator)]
        _, member = self.movie[order].unique(return_inverse=True)
        place = torch.randperm(int(member.max()) + 1, generator=generator)[member]
        return order[place.argsort(stable=True)]

    def sorted(self, order: Tensor) -> Tensor:
        """The same particles as they stand in their file, movie after movie."""
        order = order.sort().values
        return order if self.movie is None else order[self.movie[order].argsort(stable=True)]

    def next(self, order: Tensor, at: int, size: int) -> Tensor:
        """The batch of about `size` particles that begins at place `at` of `order`."""
        if self.movie is None:
            return order[at : at + size]
        return order[at : self._end(order, at, size)]

    def pieces(self, size: int) -> list[Tensor]:
        """All particles in batches."""
        order, found, at = self.sorted(torch.arange(self.n)), [], 0
        while at < self.n:
            found.append(self.next(order, at, size))
            at += len(found[-1])
        return found

    def mine(self, index: Tensor, team: Team) -> Tensor:
        """Places in a batch (b,) that this process takes."""
        if self.movie is None:
            return team.share(torch.arange(len(index)))
        movies, member = self.movie[index].unique(return_inverse=True)
        own = team.share(torch.arange(len(movies)))
        return torch.nonzero(torch.isin(member, own))[:, 0]

    def _end(self, order: Tensor, at: int, size: int) -> int:
        """Where the movie that a batch of `size` from `at` would cut begins; where it ends, if it is the first one."""
        assert self.movie is not None
        rest = self.movie[order[at:]]
        ends = at + 1 + torch.cat([torch.nonzero(rest.diff())[:, 0], torch.tensor([len(rest) - 1])])
        whole = ends[ends <= at + size]
        return int(whole[-1] if len(whole) else ends[0])
