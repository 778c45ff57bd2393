"""Batch normalisation, an activation and pooling on the CPU by native kernels: the implementations for float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simroot.ops.native import laid_out, run
from simroot.ops.norm.plain import NUMBERS
from simroot.ops.pooled_norm.operator import empty_gradients, empty_output

_PURPOSE = "a batch normalisation"


@torch.library.impl("simroot::pooled_norm", "cpu")
def _pooled_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, activation: str, maximum: bool
) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, var = empty_output(x, weight, bias, eps, activation, maximum)
    given = laid_out(x=x, weight=weight, bias=bias)
    run("pooled_norm", _PURPOSE, **given, out=out, mean=mean, var=var, **_how(x, eps, activation, maximum))
    return out, mean, var


@torch.library.impl("simroot::pooled_norm_backward", "cpu")
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    activation: str,
    maximum: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    found = empty_gradients(grad, x, weight, bias, mean, var, eps, activation, maximum, needed)
    names = ("dx", "dweight", "dbias")
    results = {name: item if need else None for name, item, need in zip(names, found, needed, strict=True)}
    given = laid_out(grad=grad, x=x, weight=weight, bias=bias, mean=mean, var=var)
    run("pooled_norm_backward", _PURPOSE, **given, **results, **_how(x, eps, activation, maximum))
    return found


def _how(x: Tensor, eps: float, activation: str, maximum: bool) -> dict[str, float]:
    images, channels, height, width = x.shape
    sizes = {"images": images, "height": height, "width": width, "channels": channels}
    return {**sizes, "maximum": int(maximum), "activation": NUMBERS[activation], "eps": eps}
