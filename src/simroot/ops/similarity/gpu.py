"""The l_p similarity on a GPU by Triton's kernels: `operator`'s operators for float32, where Triton is installed.

Triton itself is imported when the first tensor on a GPU arrives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from simroot.errors import ConfigError
from simroot.ops.gpu import INSTALLED


def lp(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    bias: Tensor | None,
    order: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
) -> Tensor:
    """``simroot::lp``."""
    from simroot.ops.similarity import triton

    with torch.cuda.device_of(x):
        return triton.forward(x, templates, weights, bias, _number(order, p), stride, groups)


def lp_backward(
    grad: Tensor,
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``simroot::lp_backward``."""
    from simroot.ops.similarity import triton

    with torch.cuda.device_of(x):
        return triton.backward(grad, x, templates, weights, order, _number(order, p), stride, groups, needed)


def _number(order: Tensor | None, p: float) -> float:
    """The order as a number: kernels are chosen by it."""
    value = p if order is None else float(order)
    if not 0 < value < math.inf:
        raise ConfigError(f"order is {value}, expected a positive number")
    return value


if INSTALLED:
    for _implementation in (lp, lp_backward):
        torch.library.impl(f"simroot::{_implementation.__name__}", "CUDA", _implementation)
