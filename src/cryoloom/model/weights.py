"""First weights of networks, from an explicit generator."""

import torch
from torch import nn


@torch.no_grad()
def draw_uniform(layer: nn.Linear | nn.Conv2d, bound: float, generator: torch.Generator) -> None:
    """Draw a layer's weights within ±`bound` and its biases within ±1/√inputs, both uniform."""
    for parameter, limit in ((layer.weight, bound), (layer.bias, layer.weight[0].numel() ** -0.5)):
        if parameter is not None:
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * limit)


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw weights and biases of every linear or convolutional layer anew, uniform within ±1/√inputs."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            draw_uniform(layer, layer.weight[0].numel() ** -0.5, generator)
