"""Depthwise and pointwise convolutions on the CPU by native kernels: the implementations for float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simroot.ops.narrow.operator import empty_gradients, empty_output
from simroot.ops.native import laid_out, run
from simroot.ops.norm.plain import NUMBERS

_PURPOSE = "a convolution"


@torch.library.impl("simroot::narrow_conv", "cpu")
def _narrow_conv(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    filters: Tensor,
    stride: int,
    padding: int,
    groups: int,
    moments: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    found = empty_output(x, mean, var, weight, bias, eps, activation, filters, stride, padding, groups, moments)
    out, out_mean, out_var = found
    given = laid_out(x=x, mean=mean, var=var, weight=weight, bias=bias)
    results = {"out": out, "out_mean": out_mean if moments else None, "out_var": out_var if moments else None}
    if out.numel():
        kind, sizes = _sizes(x, filters, stride, padding)
        weights = _dense(filters, groups).contiguous()
        run(kind, _PURPOSE, **given, weights=weights, **results, **sizes, activation=NUMBERS[activation], eps=eps)
    return found


@torch.library.impl("simroot::narrow_conv_backward", "cpu")
def _backward(
    grad: Tensor,
    grad_mean: Tensor | None,
    grad_var: Tensor | None,
    out: Tensor,
    out_mean: Tensor,
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    filters: Tensor,
    stride: int,
    padding: int,
    groups: int,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    found = empty_gradients(
        grad, grad_mean, grad_var, out, out_mean, x, mean, var, weight, bias, eps, activation, filters, stride, padding,
        groups, needed,
    )  # fmt: skip
    if not grad.numel():
        return tuple(tensor.zero_() for tensor in found)
    corrected = grad_mean is not None or grad_var is not None
    dense = _dense(filters, groups)
    dfilters = torch.empty_like(dense) if needed[5] else None
    given = laid_out(
        grad=grad, grad_mean=grad_mean, grad_var=grad_var, out=out if corrected else None,
        out_mean=out_mean if corrected else None, x=x, mean=mean, var=var, weight=weight, bias=bias,
    )  # fmt: skip
    names = ("dx", "dmean", "dvar", "dweight", "dbias")
    results = {name: tensor if tensor.numel() else None for name, tensor in zip(names, found, strict=False)}
    kind, sizes = _sizes(x, filters, stride, padding)
    run(
        f"{kind}_backward", _PURPOSE, **given, weights=dense.contiguous(), **results, dweights=dfilters, **sizes,
        activation=NUMBERS[activation], eps=eps,
    )  # fmt: skip
    if dfilters is not None:
        found[5].copy_(_blocks(dfilters, groups) if dense is not filters else dfilters)
    return found


def _dense(filters: Tensor, groups: int) -> Tensor:
    """The filters of a 1 x 1 convolution in groups as those of one without: zeros between the groups."""
    outputs, channels, kernel, _ = filters.shape
    if groups == 1 or kernel > 1:
        return filters
    blocks = filters.reshape(groups, outputs // groups, channels)
    return torch.block_diag(*blocks)[:, :, None, None]


def _blocks(dense: Tensor, groups: int) -> Tensor:
    """What of the dense filters are those of the groups."""
    outputs, channels = dense.shape[:2]
    blocks = dense.reshape(groups, outputs // groups, groups, channels // groups)
    return blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1).reshape(outputs, channels // groups, 1, 1)


def _sizes(x: Tensor, filters: Tensor, stride: int, padding: int) -> tuple[str, dict[str, int]]:
    images, channels, height, width = x.shape
    if (kernel := filters.shape[2]) == 1:
        return "pointwise_conv", {"rows": images * height * width, "inputs": channels, "outputs": filters.shape[0]}
    return "depthwise_conv", {
        "images": images, "height": height, "width": width, "channels": channels,
        "kernel": kernel, "stride": stride, "padding": padding,
    }  # fmt: skip
