"""Batch normalisation with an activation by PyTorch's operations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def _identity(z: Tensor) -> Tensor:
    return z


# In the order of their numbers in csrc/activation.hpp.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": _identity,
    "relu": torch.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
}


# Name -> the number by which kernels know it.
NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}


def activated(z: Tensor, residual: Tensor | None, activation: str) -> Tensor:
    """``f(z + residual)``."""
    return ACTIVATIONS[activation](z if residual is None else z + residual)


def plain_batch_norm_act(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, eps: float, activation: str
) -> Tensor:
    """The operator in training, without running statistics."""
    return activated(F.batch_norm(x, None, None, weight, bias, True, 0.0, eps), residual, activation)
