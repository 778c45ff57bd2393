"""A network's convolutions and dense layers as bare numbers, for counting by a paper's own convention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class LayerSize(NamedTuple):
    """One convolution or dense layer.

    Attributes:
        name: as in ``named_modules()``.
        weights: entries of its filters or matrix.
        biases: additive constants.
        outputs: output channels.
        positions: output positions; 1 for a dense layer.
    """

    name: str
    weights: int
    biases: int
    outputs: int
    positions: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def macs(self) -> int:
        """Every weight once for each output position, every bias once: the convention of Deep Roots."""
        return self.weights * self.positions + self.biases


def layer_sizes(build: Callable[[], nn.Module], input_size: Sequence[int]) -> list[LayerSize]:
    """The layers of the network as it trains, auxiliary heads included, in the order of execution.

    Nothing is computed: the network is built and run without data (torch's meta device).

    Args:
        build: gives the network.
        input_size: shape (C, H, W) of one example.
    """
    found = []
    with torch.device("meta"):
        model = build().train()
        for name, module in model.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):

                def measure(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                    assert isinstance(module, (nn.Conv2d, nn.Linear))
                    biases = 0 if module.bias is None else module.bias.numel()
                    outputs = output.shape[1]
                    found.append(LayerSize(name, module.weight.numel(), biases, outputs, output[0].numel() // outputs))

                module.register_forward_hook(measure)
        with torch.no_grad():
            model(torch.empty(2, *input_size))
    return found
