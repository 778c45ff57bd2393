"""The GPU's implementations of `_lp_op` and `_mex_ops` for float32, where Triton is installed.

Triton itself is imported when the first tensor on a GPU arrives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from simroot.errors import ConfigError
from simroot.ops import _lp_op, _mex_ops  # noqa: F401 - they define the operators
from simroot.ops._common import without_branches
from simroot.ops._native import reference_chosen

_INSTALLED = find_spec("triton") is not None


def has_triton(x: Tensor) -> bool:
    """Whether Triton's kernels serve `x`; ``SIMROOT_KERNELS=reference`` turns them off like all others."""
    fits = x.device.type == "cuda" and x.dtype == torch.float32
    return fits and _INSTALLED and not without_branches() and not reference_chosen()


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
    from simroot.ops import _triton_lp

    with torch.cuda.device_of(x):
        return _triton_lp.forward(x, templates, weights, bias, _number(order, p), stride, groups)


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
    from simroot.ops import _triton_lp

    with torch.cuda.device_of(x):
        return _triton_lp.backward(grad, x, templates, weights, order, _number(order, p), stride, groups, needed)


def mex_dense(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    """``simroot::mex_dense``."""
    from simroot.ops import _triton_mex

    with torch.cuda.device_of(x):
        return _triton_mex.forward(x, offsets, beta)


def mex_dense_backward(
    grad: Tensor, x: Tensor, offsets: Tensor, beta: Tensor, beta_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """``simroot::mex_dense_backward``."""
    from simroot.ops import _triton_mex

    with torch.cuda.device_of(x):
        return _triton_mex.backward(grad, x, offsets, beta, beta_needed)


def _number(order: Tensor | None, p: float) -> float:
    """The order as a number: kernels are chosen by it."""
    value = p if order is None else float(order)
    if not 0 < value < math.inf:
        raise ConfigError(f"order is {value}, expected a positive number")
    return value


if _INSTALLED:
    for _implementation in (lp, lp_backward, mex_dense, mex_dense_backward):
        torch.library.impl(f"simroot::{_implementation.__name__}", "CUDA", _implementation)
