"""Batch normalisation, an activation and pooling over windows of 2 x 2 pixels, without what is between in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simroot.ops.norm import fits_kernel, move_averages

__all__ = ["can_be_pooled", "pooled_batch_norm"]


def can_be_pooled(x: Tensor, *vectors: Tensor | None) -> bool:
    """Whether the kernel serves images, and the vectors of their normalisation."""
    return fits_kernel(x, None, *vectors) and x.shape[2] % 2 == x.shape[3] % 2 == 0


def pooled_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    *,
    activation: str,
    beta: float,
) -> Tensor:
    """``MEX_beta`` over windows of 2 x 2 pixels of ``f((x - mean) weight / sqrt(var + eps) + bias)``, in training.

    Forward there is a pass for the statistics of the batch and one for the result, backward two for the gradients.

    Args:
        x: (N, C, H, W), which ``can_be_pooled``.
        running_mean: (C,), moved by ``momentum`` towards the batch's mean, or None.
        running_var: the same of the variance.
        weight: (C,), or None for 1.
        bias: (C,), or None for 0.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        activation: f, one of ``simroot.ops.norm.ACTIVATIONS``.
        beta: infinite for the maximum, whose gradient is that of the first of the largest; 0 for the mean.

    Returns:
        (N, C, H / 2, W / 2).
    """
    maximum = beta == math.inf
    y, mean, var = torch.ops.simroot.pooled_norm(x, weight, bias, eps, activation, maximum)
    move_averages(running_mean, running_var, mean, var, x.numel() // x.shape[1], momentum)
    return y
