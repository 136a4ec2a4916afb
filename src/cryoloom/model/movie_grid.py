"""Frames of movies side by side: a row for each movie, a column for each place in its order of frames."""

from typing import NamedTuple

import torch
from torch import Tensor


class MovieGrid(NamedTuple):
    """Where the B particles of a batch lie in M movies of up to T frames.

    row, column: (B,) movie, and place in its order of frames; lengths: (M,); gap: (M, T) frames since the one before,
    1 for the first.
    """

    row: Tensor
    column: Tensor
    lengths: Tensor
    gap: Tensor

    @classmethod
    def of(cls, movie: Tensor, frame: Tensor) -> "MovieGrid":
        """The grid of particles of movies (B,) and frames (B,), in any order."""
        _, row, lengths = movie.unique(return_inverse=True, return_counts=True)
        order = frame.argsort(stable=True)
        order = order[row[order].argsort(stable=True)]
        first = lengths.cumsum(0) - lengths
        column = torch.empty_like(row)
        column[order] = torch.arange(len(row), device=row.device) - first[row[order]]
        grid = cls(row, column, lengths, torch.ones(0))
        # Past a movie's end nothing is read: any gap will do there.
        at = grid.filled(frame.float()[:, None])[..., 0]
        gap = torch.cat([torch.ones_like(at[:, :1]), at.diff(dim=1).clamp(min=1)], 1)
        return grid._replace(gap=gap)

    def filled(self, values: Tensor) -> Tensor:
        """Values (B, F) of the particles on the grid, (M, T, F), zero where there is no frame."""
        grid = values.new_zeros(len(self.lengths), int(self.lengths.max()), values.shape[1])
        return grid.index_put((self.row, self.column), values)

    def read(self, grid: Tensor) -> Tensor:
        """The inverse of `filled`."""
        return grid[self.row, self.column]
