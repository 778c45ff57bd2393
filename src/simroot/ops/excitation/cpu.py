"""A squeeze-excitation before a 1 x 1 convolution on the CPU by native kernels: the implementations for float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simroot.ops.excitation.operator import empty_gated_gradients, empty_gradients, empty_means, empty_output
from simroot.ops.native import laid_out, run
from simroot.ops.norm.plain import NUMBERS

_PURPOSE = "a squeeze-excitation"


@torch.library.impl("simroot::norm_pool", "cpu")
def _norm_pool(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor]:
    pooled, stands = empty_means(x, mean, var, weight, bias, eps, activation)
    given = laid_out(x=x, mean=mean, var=var, weight=weight, bias=bias)
    run("norm_pool", _PURPOSE, **given, pooled=pooled, **_sizes(x), activation=NUMBERS[activation], eps=eps)
    return pooled, stands


@torch.library.impl("simroot::norm_pool_backward", "cpu")
def _norm_pool_backward(
    grad: Tensor,
    grad_pooled: Tensor | None,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    found = empty_gradients(grad, grad_pooled, x, mean, var, weight, bias, eps, activation, needed)
    names = ("dx", "dmean", "dvar", "dweight", "dbias")
    results = {name: tensor if tensor.numel() else None for name, tensor in zip(names, found, strict=True)}
    given = laid_out(grad=grad, grad_pooled=grad_pooled, x=x, mean=mean, var=var, weight=weight, bias=bias)
    run("norm_pool_backward", _PURPOSE, **given, **results, **_sizes(x), activation=NUMBERS[activation], eps=eps)
    return found


@torch.library.impl("simroot::gated_conv", "cpu")
def _gated_conv(
    added: Tensor,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    gate: Tensor,
    filters: Tensor,
    moments: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    found = empty_output(added, x, mean, var, weight, bias, eps, activation, gate, filters, moments)
    out, out_mean, out_var = found
    given = laid_out(x=x, mean=mean, var=var, weight=weight, bias=bias, gate=gate)
    results = {"out": out, "out_mean": out_mean if moments else None, "out_var": out_var if moments else None}
    run(
        "gated_conv", _PURPOSE, **given, weights=filters.contiguous(), **results, **_sizes_of_conv(x, filters),
        activation=NUMBERS[activation], eps=eps,
    )  # fmt: skip
    return found


@torch.library.impl("simroot::gated_conv_backward", "cpu")
def _gated_conv_backward(
    grad: Tensor,
    grad_mean: Tensor | None,
    grad_var: Tensor | None,
    out: Tensor,
    out_mean: Tensor,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    gate: Tensor,
    filters: Tensor,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    found = empty_gated_gradients(
        grad, grad_mean, grad_var, out, out_mean, x, mean, var, weight, bias, eps, activation, gate, filters, needed
    )
    dx, dgate, _ = found
    corrected = grad_mean is not None or grad_var is not None
    dfilters = torch.empty(filters.shape, dtype=x.dtype) if needed[2] else None
    given = laid_out(
        grad=grad, grad_mean=grad_mean, grad_var=grad_var, out=out if corrected else None,
        out_mean=out_mean if corrected else None, x=x, mean=mean, var=var, weight=weight, bias=bias, gate=gate,
    )  # fmt: skip
    nothing = dict.fromkeys(("dmean", "dvar", "dweight", "dbias"))
    run(
        "gated_conv_backward", _PURPOSE, **given, weights=filters.contiguous(), dx=dx, dgate=dgate,
        dweights=dfilters, **nothing, **_sizes_of_conv(x, filters), activation=NUMBERS[activation], eps=eps,
    )  # fmt: skip
    return dx, dgate, found[2] if dfilters is None else dfilters


def _sizes(x: Tensor) -> dict[str, int]:
    images, channels, height, width = x.shape
    return {"images": images, "pixels": height * width, "channels": channels}


def _sizes_of_conv(x: Tensor, filters: Tensor) -> dict[str, int]:
    images, channels, height, width = x.shape
    pixels = height * width
    return {"pixels": pixels, "rows": images * pixels, "inputs": channels, "outputs": filters.shape[0]}
