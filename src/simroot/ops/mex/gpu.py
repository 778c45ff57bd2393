"""MEX over channels plus offsets on a GPU by Triton's kernels: `operator`'s operators for float32.

Triton itself is imported when the first tensor on a GPU arrives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simroot.ops.gpu import INSTALLED


def mex_dense(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    """``simroot::mex_dense``."""
    from simroot.ops.mex import triton

    with torch.cuda.device_of(x):
        return triton.forward(x, offsets, beta)


def mex_dense_backward(
    grad: Tensor, x: Tensor, offsets: Tensor, beta: Tensor, beta_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """``simroot::mex_dense_backward``."""
    from simroot.ops.mex import triton

    with torch.cuda.device_of(x):
        return triton.backward(grad, x, offsets, beta, beta_needed)


if INSTALLED:
    for _implementation in (mex_dense, mex_dense_backward):
        torch.library.impl(f"simroot::{_implementation.__name__}", "CUDA", _implementation)
