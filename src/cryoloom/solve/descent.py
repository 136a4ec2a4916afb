"""Adam on a model's parts: which of them a stage trains, and how far a step goes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cryoloom.solve.stages import Stage
from cryoloom.solve.team import Team


class Descent:
    """An optimiser for each part of a model; gradients are summed over a team's processes."""

    def __init__(self, parts: Mapping[str, nn.Module], team: Team):
        self.parts, self.team = parts, team
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.optimisers = {name: optimiser_of(part) for name, part in self.parts.items()}

    def begin(self, stage: Stage) -> None:
        """Train what a stage trains, at its learning rates."""
        for name, part in self.parts.items():
            part.requires_grad_(name in stage.train)
            for group in self.optimisers[name].param_groups:
                group["lr"] = stage.rates.get(name, stage.lr)

    def step(self, price: Tensor, stage: Stage) -> None:
        """One step down the gradient of a price by all that a stage trains."""
        trained = [self.optimisers[name] for name in stage.train]
        for optimiser in trained:
            optimiser.zero_grad()
        price.backward()
        self._add_gradients(trained)
        for optimiser in trained:
            optimiser.step()

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Moments of every part's optimiser."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, moments: dict[str, dict[str, Any]]) -> None:
        """Go on from moments that were saved."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(moments[name])

    def _add_gradients(self, optimisers: list[torch.optim.Optimizer]) -> None:
        if self.team.size == 1:
            return
        parameters = [p for o in optimisers for g in o.param_groups for p in g["params"] if p.grad is not None]
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            (summed,) = self.team.add([gradient.to_dense() if gradient.is_sparse else gradient])
            parameter.grad = summed.to_sparse(1) if gradient.is_sparse else summed


def optimiser_of(part: nn.Module) -> torch.optim.Optimizer:
    """Adam over all parameters of a part; a table's rows move only when their particle is seen."""
    parameters = list(part.parameters())
    sparse = any(isinstance(m, nn.Embedding) and m.sparse for m in part.modules())
    return (torch.optim.SparseAdam if sparse else torch.optim.Adam)(parameters)
