"""Pooling over windows of 2 x 2 pixels: their maxima or means."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simroot.ops.native import SMALLEST, serves_images

__all__ = ["fits_kernel", "window_pool"]


def fits_kernel(x: Tensor) -> bool:
    """Whether the kernel serves images."""
    return serves_images(x) and x.numel() >= SMALLEST and x.shape[2] % 2 == x.shape[3] % 2 == 0


def window_pool(x: Tensor, beta: float) -> Tensor:
    """``MEX_beta`` over windows of 2 x 2 pixels, without indices; backward the windows are read again.

    Args:
        x: (N, C, H, W), which ``fits_kernel``.
        beta: infinite for the maximum, whose gradient is that of the first of the largest; 0 for the mean.

    Returns:
        (N, C, H / 2, W / 2).
    """
    y: Tensor = torch.ops.simroot.window_pool(x, beta == math.inf)
    return y
