"""MEX over windows in PyTorch: windows are stacked, then reduced."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from simroot.ops.common import windows
from simroot.ops.mex.along_axis import log_mean_exp

Pair = Sequence[int]


def plain_mex_pool(x: Tensor, beta: Tensor, kernel: Pair, stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """(N, C, H, W) and beta that broadcasts to (C, 1, 1) -> (N, C, *size), any number of times differentiable."""
    if tuple(kernel) == x.shape[2:] and not any(padding):
        rows = x.flatten(2)
        return log_mean_exp(rows, beta.expand(x.shape[1], 1, 1).flatten(1).expand(*rows.shape[:2], 1), 2).unsqueeze(3)
    # Padding up to where the last windows end, which may also be before the image does.
    sides = zip(size, stride, kernel, padding, x.shape[2:], strict=True)
    ends = [(n - 1) * s + k - p - length for n, s, k, p, length in sides]
    around = (padding[1], max(0, ends[1]), padding[0], max(0, ends[0]))
    present = None
    if any(around):
        present = windows(F.pad(torch.ones_like(x[:1, :1]), around), kernel, stride, size) > 0
        x = F.pad(x, around)
    stacked = windows(x, kernel, stride, size)
    return log_mean_exp(stacked, beta.expand(stacked[:1].shape), 0, present).squeeze(0)
