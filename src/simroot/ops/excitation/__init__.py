"""A squeeze-excitation and the 1 x 1 convolution that reads it, without what is between in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from simroot.ops.narrow import Moments, Norm, fits_kernel, narrow_conv2d

__all__ = ["excited_conv2d"]


def excited_conv2d(
    x: Tensor, filters: Tensor, gate: Callable[[Tensor], Tensor], *, norm: Norm, moments: bool = False
) -> tuple[Tensor, Moments | None]:
    """``y = (a g) * filters``, with ``a = f(norm(x))`` and ``g = gate(mean of a over the pixels)``, and its moments.

    Args:
        x: (N, C, H, W), channels-last where a kernel is to serve it.
        filters: (D, C, 1, 1).
        gate: (N, C, 1, 1) -> (N, C, 1, 1).
        norm: the normalisation and activation, whose statistics carry gradient.
        moments: whether the moments of y are wanted.

    Returns:
        y (N, D, H, W) and its moments or None.
    """
    mean, var, *rest = norm
    if mean is None or var is None or not fits_kernel(x, filters, 1, 0, 1):
        a = norm(x)
        return narrow_conv2d(a * gate(a.mean((2, 3), keepdim=True)), filters, moments=moments)
    pooled, stands = torch.ops.simroot.norm_pool(x, mean, var, *rest)
    opened = gate(pooled[:, :, None, None]).flatten(1)
    constants = [one.detach() if isinstance(one, Tensor) else one for one in (x, *norm)]
    y, *found = torch.ops.simroot.gated_conv(stands, *constants, opened, filters, moments)
    return y, Moments(*found) if moments else None
