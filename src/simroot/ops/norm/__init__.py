"""Batch normalisation, an optional addition and an activation in one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.ops.native import serves_together
from simroot.ops.norm.plain import ACTIVATIONS, activated

__all__ = ["ACTIVATIONS", "batch_norm_act", "fits_kernel", "move_averages"]

# Numbers of an image tensor from which on the kernel is faster than PyTorch's operations.
_SMALLEST = 2**18


def batch_norm_act(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """``y = f((x - mean) weight / sqrt(var + eps) + bias + residual)``: ``F.batch_norm`` and what follows it.

    Float32 images on the CPU that are channels-last in memory meet a native kernel in training: one pass for the
    statistics, one for the result, and two for the gradients, which compute what is between again instead of keeping
    it. All else is PyTorch's ``batch_norm`` and activation, evaluation too.

    Args:
        x: (N, C, H, W).
        running_mean: (C,), moved by ``momentum`` towards the batch's mean in training, used in evaluation.
        running_var: the same of the variance.
        weight: (C,), or None for 1.
        bias: (C,), or None for 0.
        training: whether the statistics are those of the batch.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        activation: f, one of ``ACTIVATIONS``.
        residual: (N, C, H, W), added before f.

    Returns:
        (N, C, H, W).

    Raises:
        ConfigError: for an unknown activation.
        RuntimeError: from PyTorch, for tensors whose shapes do not fit each other.
    """
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    use_batch = training or running_mean is None or running_var is None
    if not use_batch or not fits_kernel(x, residual, running_mean, running_var, weight, bias):
        z = F.batch_norm(x, running_mean, running_var, weight, bias, use_batch, momentum, eps)
        return activated(z, residual, activation)
    y, mean, var = torch.ops.simroot.batch_norm_act(x, weight, bias, residual, eps, activation)
    move_averages(running_mean, running_var, mean, var, x.numel() // x.shape[1], momentum)
    return y


@torch.no_grad()
def move_averages(
    running_mean: Tensor | None, running_var: Tensor | None, mean: Tensor, var: Tensor, rows: int, momentum: float
) -> None:
    """Move running statistics, if there are some, towards those of so many rows; ``var`` is divided by their number."""
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (rows / (rows - 1)), momentum)


def fits_kernel(x: Tensor, residual: Tensor | None, *vectors: Tensor | None) -> bool:
    """Whether these tensors fit each other and the kernel."""
    if x.ndim != 4 or x.numel() < _SMALLEST or x.numel() == x.shape[1]:
        return False
    return serves_together(x, [(residual, x.shape), *((vector, x.shape[1:2]) for vector in vectors)])
