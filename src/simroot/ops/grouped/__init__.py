"""Convolution in filter groups of few channels each (Deep Roots, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import has_torch_function

from simroot.ops.common import pair
from simroot.ops.grouped.operator import passes_of_kernel
from simroot.ops.native import has_native


def grouped_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
) -> Tensor:
    """Convolution in filter groups: ``torch.nn.functional.conv2d`` without dilation, faster for narrow groups.

    ``y[d, i, j] = bias[d] + sum_{c, a, b} weight[d, c, a, b] x[g C / groups + c, s i + a - pad, s j + b - pad]`` for
    each image, where g = floor(d groups / D) is the group of filter d and x is 0 outside the image.

    Float32 tensors on the CPU meet a native kernel where it is the faster one by measurement: 3 x 3 and 5 x 5 filters
    with stride 1 (or 2) and 2 to 12 (or 4) channels a group (``operator.passes_of_kernel``). All else is PyTorch's
    ``conv2d``: other shapes, dtypes and devices, autocast, graphs that are exported, ``torch.func`` and forward mode,
    subclasses of tensors, and calls under a ``TorchFunctionMode``, which sees ``torch.conv2d``.

    Args:
        x: (N, C, H, W); the memory format of the result is that of x.
        weight: (D, C / groups, kh, kw).
        bias: (D,).
        stride: step between output positions, s.
        padding: zeros on every side.
        groups: filter groups.

    Returns:
        (N, D, H', W') with ``H' = floor((H + 2 pad - kh) / s) + 1``.

    Raises:
        ConfigError: for a stride or padding that is no number or pair in range.
        RuntimeError: from PyTorch, for tensors whose shapes do not fit each other.
    """
    strides, paddings = pair(stride, "stride", 1), pair(padding, "padding", 0)
    if _has_kernel(x, weight, bias, strides, paddings, groups):
        return torch.ops.simroot.grouped_conv(x, weight, bias, strides[0], paddings[0], groups)
    return F.conv2d(x, weight, bias, strides, paddings, 1, groups)


def _has_kernel(
    x: Tensor, weight: Tensor, bias: Tensor | None, strides: tuple[int, int], paddings: tuple[int, int], groups: int
) -> bool:
    """Whether these tensors fit each other and a kernel that is faster than PyTorch."""
    if groups == 1 or has_torch_function((x, weight, bias)) or not has_native(x) or torch.is_autocast_enabled("cpu"):
        return False
    given = (weight,) if bias is None else (weight, bias)
    if x.ndim != 4 or weight.ndim != 4 or any(t.dtype != x.dtype or t.device != x.device for t in given):
        return False
    (filters, channels, kernel, kernel_width), (height, width) = weight.shape, x.shape[2:]
    stride, padding = strides[0], paddings[0]
    square = kernel == kernel_width and strides == (stride, stride) and paddings == (padding, padding)
    fits = x.shape[1] == channels * groups and filters % groups == 0 and (bias is None or bias.shape == (filters,))
    inside = 2 * padding < kernel <= min(height, width) + 2 * padding
    if not (square and fits and inside and stride <= 2):
        return False
    return passes_of_kernel(channels, filters // groups, kernel, width, stride).output
