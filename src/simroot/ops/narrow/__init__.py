"""Depthwise and pointwise convolutions that normalise what they read and take the moments of what they write.

What stands between the convolutions of a separable network, a batch normalisation and an activation, is done where the
next convolution reads, and the statistics of the next normalisation where this one writes: a training goes over its
large tensors half as often.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from simroot.ops.narrow.plain import Norm, plain_conv
from simroot.ops.native import SMALLEST, serves_images

__all__ = ["Moments", "Norm", "fits_kernel", "narrow_conv2d"]

# Channels above which PyTorch's matrix products are as fast and nothing is left to be gained.
_WIDEST = 256


class Moments(NamedTuple):
    """Mean and variance (divided by the count) of each channel, (D,) each, with gradient."""

    mean: Tensor
    var: Tensor


def fits_kernel(x: Tensor, filters: Tensor, stride: int, padding: int, groups: int) -> bool:
    """Whether the kernels serve this convolution of float32 channels-last images on the CPU, by shapes alone.

    Depthwise 3 x 3, 5 x 5 and 7 x 7 with stride 1 or 2, and 1 x 1 with stride 1, in groups too, up to 256 channels.
    """
    if not serves_images(x, filters) or x.numel() < SMALLEST or filters.ndim != 4 or filters.dtype != x.dtype:
        return False
    if x.shape[1] != filters.shape[1] * groups:
        return False
    (outputs, _, kernel, kernel_width), channels = filters.shape, x.shape[1]
    if kernel != kernel_width or outputs % groups:
        return False
    if kernel == 1:
        return stride == 1 and padding == 0 and max(channels, outputs) <= _WIDEST
    depthwise = groups == channels == outputs > 1 and kernel in (3, 5, 7) and stride in (1, 2) and padding < kernel
    return depthwise and min(x.shape[2:]) + 2 * padding >= kernel


def narrow_conv2d(
    x: Tensor,
    filters: Tensor,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    *,
    norm: Norm | None = None,
    moments: bool = False,
) -> tuple[Tensor, Moments | None]:
    """``y = f((x - mean) weight / sqrt(var + eps) + bias) * filters`` and the moments of y.

    Args:
        x: (N, C, H, W), channels-last where a kernel is to serve it.
        filters: (D, C / groups, k, k).
        stride: step between output positions.
        padding: zeros on every side, of what the filters meet.
        groups: filter groups.
        norm: the normalisation and activation before the filters, whose statistics carry gradient; None for none.
        moments: whether the moments of y are wanted.

    Returns:
        y (N, D, H', W') and its moments or None.
    """
    if not fits_kernel(x, filters, stride, padding, groups):
        y = plain_conv(x, filters, stride, padding, groups, norm)
        return y, Moments(y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)) if moments else None
    settings = norm or Norm(None, None, None, None, 0.0, "none")
    y, mean, var = torch.ops.simroot.narrow_conv(x, *settings, filters, stride, padding, groups, moments)
    return y, Moments(mean, var) if moments else None
