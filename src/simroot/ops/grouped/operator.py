"""The operator `simroot::grouped_conv` and its gradients: schemas, shapes and derivatives.

Images are contiguous or channels-last, and so is what is made of them; filters likewise. Second derivatives go through
PyTorch's convolution. `cpu` has the CPU's kernels.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from simroot.ops.common import differentiable_vjp, no_autocast, plain_gradient

_LIBRARY = torch.library.Library("simroot", "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag,)

# (N, C, H, W) and (D, C / groups, k, k), all float32 -> (N, D, H', W').
_LIBRARY.define(
    "grouped_conv(Tensor x, Tensor weight, Tensor? bias, int stride, int padding, int groups) -> Tensor", tags=_TAGS
)
# The gradient of x, for stride 1.
_LIBRARY.define(
    "grouped_conv_input(Tensor grad, Tensor x, Tensor weight, int padding, int groups) -> Tensor", tags=_TAGS
)
# The gradients of the filters and the bias.
_LIBRARY.define(
    "grouped_conv_filters(Tensor grad, Tensor x, Tensor weight, int stride, int padding, int groups) "
    "-> (Tensor, Tensor)",
    tags=_TAGS,
)


class Passes(NamedTuple):
    """Which passes over a layer the kernels take; PyTorch takes the others."""

    output: bool
    input_gradient: bool
    filter_gradient: bool


def passes_of_kernel(channels: int, filters: int, kernel: int, width: int, stride: int) -> Passes:
    """The passes in which the kernels have been measured to be 1.3 times as fast as PyTorch's best form of the layer.

    By `benchmarks/grouped_convolution.py`, alike for every batch, so that results depend on shapes alone. PyTorch
    computes channels in blocks of eight: where groups are no whole blocks it wastes most.

    Args:
        channels: input channels of a group.
        filters: output channels of a group.
        kernel: height and width of the filters.
        width: width of the images.
        stride: step between output positions.
    """
    largest = max(channels, filters)
    few = min(channels, filters) > 1 and largest <= (12 if stride == 1 else 4)
    whole_blocks = channels % 8 == 0 and filters % 8 == 0
    large = kernel == 3 and width >= 28
    output = few and kernel in (3, 5) and (large or not whole_blocks)
    return Passes(output, output and stride == 1 and not whole_blocks, output and large and largest <= 4)


def memory_format(tensor: Tensor) -> torch.memory_format:
    """Channels-last for tensors that are so, whole or as a slice."""
    last = tensor.stride(1) == 1 and not tensor.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def empty_output(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """For the convolution of x."""
    height, width = ((size + 2 * padding - weight.shape[2]) // stride + 1 for size in x.shape[2:])
    shape = (x.shape[0], weight.shape[0], height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def empty_alike(tensor: Tensor) -> Tensor:
    """For the gradient of a tensor."""
    return torch.empty_like(tensor, memory_format=memory_format(tensor))


@torch.library.register_fake("simroot::grouped_conv")
def _shape(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int) -> Tensor:
    return empty_output(x, weight, stride, padding)


@torch.library.register_fake("simroot::grouped_conv_input")
def _shape_of_input(grad: Tensor, x: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    return empty_alike(x)


@torch.library.register_fake("simroot::grouped_conv_filters")
def _shape_of_filters(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int
) -> tuple[Tensor, Tensor]:
    return empty_alike(weight), weight.new_empty(weight.shape[0])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.stride, ctx.padding, ctx.groups = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    needed = ctx.needs_input_grad[:3]
    with no_autocast(grad):
        if plain_gradient():
            plain = partial(F.conv2d, stride=ctx.stride, padding=ctx.padding, groups=ctx.groups)
            return (*differentiable_vjp(plain, (x, weight, bias), grad, needed), None, None, None)
        return (*_gradients(grad, x, weight, needed, ctx.stride, ctx.padding, ctx.groups), None, None, None)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, ...], stride: int, padding: int, groups: int
) -> list[Tensor | None]:
    shape = weight.shape[1], weight.shape[0] // groups, weight.shape[2], x.shape[3], stride
    _, own_input, own_filters = passes_of_kernel(*shape)
    dx = dweight = dbias = None
    if needed[0] and own_input:
        dx = torch.ops.simroot.grouped_conv_input(grad, x, weight, padding, groups)
    if (needed[1] or needed[2]) and own_filters:
        dweight, dbias = torch.ops.simroot.grouped_conv_filters(grad, x, weight, stride, padding, groups)
    left = [needed[0] and not own_input, needed[1] and not own_filters, needed[2] and not own_filters]
    if any(left):
        others = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, left
        )
        dx, dweight, dbias = (
            theirs if mask else ours for theirs, ours, mask in zip(others, (dx, dweight, dbias), left, strict=True)
        )
    return [found if need else None for found, need in zip((dx, dweight, dbias), needed, strict=True)]


torch.library.register_autograd("simroot::grouped_conv", _differentiate, setup_context=_keep)
