"""A root module of depthwise filters in one: 3 x 3 filters, a 1 x 1 convolution, batch normalisation, activation."""

from __future__ import annotations

import torch
from torch import Tensor

from simroot.ops.native import SMALLEST, serves_together
from simroot.ops.norm import move_averages

__all__ = ["fits_kernel", "root_module"]


def fits_kernel(x: Tensor, spatial: Tensor, embedding: Tensor, *vectors: Tensor | None) -> bool:
    """Whether the kernels serve images, filters (C, 1, 3, 3) and (D, C, 1, 1), and vectors (D,) of a normalisation."""
    if x.ndim != 4 or x.numel() < SMALLEST:
        return False
    channels, outputs = x.shape[1], embedding.shape[0]
    filters = [(spatial, (channels, 1, 3, 3)), (embedding, (outputs, channels, 1, 1))]
    return serves_together(x, [*filters, *((vector, (outputs,)) for vector in vectors)])


def root_module(
    x: Tensor,
    spatial: Tensor,
    embedding: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *,
    activation: str,
    adds: bool,
) -> Tensor:
    """``y = f((z - mean) weight / sqrt(var + eps) + bias)`` with z = ``x * spatial * embedding``; maybe y + x.

    In training there is a pass that convolves and finds the statistics of the batch, and one for the result; backward
    one for two sums, and one for all gradients. Only z is kept. In evaluation there is one pass, and no gradient.

    Args:
        x: (N, C, H, W), which ``fits_kernel``.
        spatial: (C, 1, 3, 3), a filter for each channel, with a padding of 1.
        embedding: (D, C, 1, 1).
        running_mean: (D,), moved by ``momentum`` towards the batch's mean, or None.
        running_var: the same of the variance.
        weight: (D,), or None for 1.
        bias: (D,), or None for 0.
        training: whether the statistics are those of the batch; else there must be running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        activation: f, one of ``simroot.ops.norm.ACTIVATIONS``.
        adds: whether x is added; then D = C.

    Returns:
        (N, D, H, W).
    """
    if not training:
        y: Tensor = torch.ops.simroot.root_module_evaluated(
            x, spatial, embedding, running_mean, running_var, weight, bias, eps, activation, adds
        )
        return y
    y, _, mean, var = torch.ops.simroot.root_module(x, spatial, embedding, weight, bias, eps, activation, adds)
    move_averages(running_mean, running_var, mean, var, y.numel() // y.shape[1], momentum)
    return y
