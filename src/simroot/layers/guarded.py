"""A guard against a fault of PyTorch 2.14 on CPUs.

The gradient of the filters of a 1x1 convolution that strides and reads fewer than eight channels, channels-last, writes
beyond its memory: the process crashes, then or later.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SAFE = 8  # channels from which on it does not


def subsampled(x: Tensor, stride: int | tuple[int, ...]) -> Tensor:
    """The pixels that a 1x1 convolution reads which strides: with a step of 1 it is then the same, and safe."""
    down, across = (stride, stride) if isinstance(stride, int) else stride
    return x[..., ::down, ::across]


class Subsampled:
    """The forward of a 1x1 convolution that strides: in training it first takes the pixels that it reads.

    It is the same function, and can be copied and pickled with its module.
    """

    def __init__(self, module: nn.Conv2d) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        module = self.module
        if not (module.training and torch.is_grad_enabled()):
            return type(module).forward(module, x)
        return F.conv2d(subsampled(x, module.stride), module.weight, module.bias)


def guard(model: nn.Module) -> None:
    """Let every convolution that the fault concerns take its pixels first, in training; names and weights stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_concerned(module):
            module.forward = Subsampled(module)  # type: ignore[assignment]


def unguard(model: nn.Module) -> None:
    """Undo ``guard``."""
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), Subsampled):
            del module.forward


def _is_concerned(module: nn.Conv2d) -> bool:
    return (
        module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.padding in ((0, 0), "valid")
        and module.groups == 1
        and module.in_channels < _SAFE
        and "forward" not in module.__dict__
    )
