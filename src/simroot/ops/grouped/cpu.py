"""Grouped convolution on the CPU by native kernels: the implementations of `operator` for float32."""

from __future__ import annotations

import torch
from torch import Tensor

from simroot.ops.grouped.operator import empty_alike, empty_output, memory_format
from simroot.ops.native import run


@torch.library.impl("simroot::grouped_conv", "cpu")
def _grouped_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int) -> Tensor:
    out = empty_output(x, weight, stride, padding)
    x, weight = _laid_out(x), _laid_out(weight)
    bias = None if bias is None else bias.contiguous()
    _run("grouped_conv", x, weight, (stride, padding, groups), x=x, weights=weight, bias=bias, out=out)
    return out


@torch.library.impl("simroot::grouped_conv_input", "cpu")
def _gradient_of_input(grad: Tensor, x: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    dx, weight = empty_alike(x), _laid_out(weight)
    grad = grad.contiguous(memory_format=memory_format(x))
    _run("grouped_conv_input", dx, weight, (1, padding, groups), grad=grad, weights=weight, dx=dx)
    return dx


@torch.library.impl("simroot::grouped_conv_filters", "cpu")
def _gradient_of_filters(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int
) -> tuple[Tensor, Tensor]:
    dweight, dbias = empty_alike(weight), weight.new_empty(weight.shape[0])
    grad, x = grad.contiguous(memory_format=memory_format(x)), _laid_out(x)
    tensors = {"grad": grad, "x": x, "dweights": dweight, "dbias": dbias}
    _run("grouped_conv_filters", x, dweight, (stride, padding, groups), **tensors)
    return dweight, dbias


def _laid_out(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=memory_format(tensor))


def _run(name: str, x: Tensor, weight: Tensor, settings: tuple[int, int, int], /, **tensors: Tensor | None) -> None:
    """Call a kernel; x and weight, or tensors like them, tell the sizes."""
    stride, padding, groups = settings
    (images, _, height, width), (filters, inputs, kernel, _) = x.shape, weight.shape
    run(
        name, "a grouped convolution", **tensors,
        images=images, groups=groups, inputs=inputs, filters=filters // groups, height=height, width=width,
        kernel=kernel, stride=stride, padding=padding,
        channels_last=int(not x.is_contiguous()), filters_last=int(not weight.is_contiguous()),
    )  # fmt: skip
