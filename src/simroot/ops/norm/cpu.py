"""Batch normalisation with an activation on the CPU by native kernels: the implementations for float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simroot.ops.native import laid_out, run
from simroot.ops.norm.operator import empty_gradients, empty_output
from simroot.ops.norm.plain import NUMBERS

_PURPOSE = "a batch normalisation"


@torch.library.impl("simroot::batch_norm_act", "cpu")
def _batch_norm_act(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, var = empty_output(x, weight, bias, residual, eps, activation)
    given = laid_out(x=x, weight=weight, bias=bias, residual=residual)
    run("batch_norm_act", _PURPOSE, **given, out=out, mean=mean, var=var, **_sizes(x, activation), eps=eps)
    return out, mean, var


@torch.library.impl("simroot::batch_norm_act_backward", "cpu")
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    activation: str,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = empty_gradients(grad, x, weight, bias, residual, mean, var, eps, activation, needed)
    dx, dweight, dbias, dresidual = (item if need else None for item, need in zip(found, needed, strict=True))
    if residual is not None and dresidual is None:
        dresidual = torch.empty_like(
            x, memory_format=torch.channels_last
        )  # the kernel keeps the gradient before the normalisation there
    given = laid_out(grad=grad, x=x, weight=weight, bias=bias, residual=residual, mean=mean, var=var)
    results = {"dx": dx, "dweight": dweight, "dbias": dbias, "dresidual": dresidual}
    run("batch_norm_act_backward", _PURPOSE, **given, **results, **_sizes(x, activation), eps=eps)
    return found


def _sizes(x: Tensor, activation: str) -> dict[str, int]:
    images, channels, height, width = x.shape
    return {"rows": images * height * width, "channels": channels, "activation": NUMBERS[activation]}
