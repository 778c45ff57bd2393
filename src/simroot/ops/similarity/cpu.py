"""The l_p similarity on the CPU by native kernels: `operator`'s operators for float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import c_double, c_int64, c_void_p

import torch
from torch import Tensor

from simroot.errors import ConfigError
from simroot.ops.native import run
from simroot.ops.similarity.operator import empty_gradients, empty_output

# Tensors, then sizes of x, templates, kernel, stride and groups, and the order.
_SIZES = (*[c_int64] * 10, c_double)
_FORWARD = (*[c_void_p] * 5, *_SIZES)
_BACKWARD = (*[c_void_p] * 9, *_SIZES)


@torch.library.impl("simroot::lp", "cpu")
def _lp(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    bias: Tensor | None,
    order: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
) -> Tensor:
    out = empty_output(x, templates, stride)
    x, templates, weights = _laid_out(x, templates, weights)
    _run(
        "lp_forward",
        _FORWARD,
        (x, templates, weights, None if bias is None else bias.contiguous(), out),
        _sizes(x, templates, order, p, stride, groups),
    )
    return out


@torch.library.impl("simroot::lp_backward", "cpu")
def _lp_backward(
    grad: Tensor,
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    found = empty_gradients(x, templates, weights, order, needed)
    dorder = torch.zeros((), dtype=torch.float64) if needed[4] else None
    x, templates, weights = _laid_out(x, templates, weights)
    wanted = [item if need else None for item, need in zip(found[:4], needed, strict=False)]
    _run(
        "lp_backward",
        _BACKWARD,
        (grad.contiguous(memory_format=torch.channels_last), x, templates, weights, *wanted, dorder),
        _sizes(x, templates, order, p, stride, groups),
    )
    if dorder is not None:
        found[4].copy_(dorder)
    return found


def _laid_out(x: Tensor, templates: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    return (
        x.contiguous(memory_format=torch.channels_last),
        templates.contiguous(),
        None if weights is None else weights.contiguous(),
    )


def _sizes(
    x: Tensor, templates: Tensor, order: Tensor | None, p: float, stride: Sequence[int], groups: int
) -> tuple[float, ...]:
    if order is not None:
        p = order.item()
        if not 0 < p < math.inf:
            raise ConfigError(f"order is {p}, expected a positive number")
    count, channels, height, width = x.shape
    r, _, kh, kw = templates.shape
    return (count, height, width, channels, r, kh, kw, *stride, groups, p)


def _run(name: str, types: Sequence[type], tensors: Sequence[Tensor | None], sizes: Sequence[float]) -> None:
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    run(name, types, *pointers, *sizes, purpose="an l_p similarity")
