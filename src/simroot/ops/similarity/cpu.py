"""The l_p similarity on the CPU by native kernels: `operator`'s operators for float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from simroot.errors import ConfigError
from simroot.ops.native import run
from simroot.ops.similarity.operator import empty_gradients, empty_output

_PURPOSE = "an l_p similarity"


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
    bias = None if bias is None else bias.contiguous()
    sizes = _sizes(x, templates, order, p, stride, groups)
    run("lp_forward", _PURPOSE, x=x, z=templates, u=weights, bias=bias, out=out, **sizes)
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
    grad = grad.contiguous(memory_format=torch.channels_last)
    dx, dz, du, dbias = (item if need else None for item, need in zip(found[:4], needed, strict=False))
    results = {"dx": dx, "dz": dz, "du": du, "dbias": dbias, "dorder": dorder}
    sizes = _sizes(x, templates, order, p, stride, groups)
    run("lp_backward", _PURPOSE, grad=grad, x=x, z=templates, u=weights, **results, **sizes)
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
) -> dict[str, float]:
    if order is not None:
        p = order.item()
        if not 0 < p < math.inf:
            raise ConfigError(f"order is {p}, expected a positive number")
    images, channels, height, width = x.shape
    r, _, kernel_height, kernel_width = templates.shape
    return {
        "images": images, "height": height, "width": width, "channels": channels, "templates": r,
        "kernel_height": kernel_height, "kernel_width": kernel_width,
        "step_down": stride[0], "step_right": stride[1], "groups": groups, "order": p,
    }  # fmt: skip
