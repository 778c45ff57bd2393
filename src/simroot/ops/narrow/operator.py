"""The operator `simroot::narrow_conv`: schema, shapes and derivatives.

A convolution of f(norm(x)), and mean and variance of the result, which carry gradient: so a normalisation behind it
needs no pass of its own. Second derivatives go through PyTorch's operations. `cpu` has the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from simroot.ops.common import channels_last, differentiable_vjp, no_autocast, plain_gradient
from simroot.ops.narrow.plain import Norm, plain_conv

_LIBRARY = torch.library.Library("simroot", "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag,)

# The moments are empty if they are not wanted.
_LIBRARY.define(
    "narrow_conv(Tensor x, Tensor? mean, Tensor? var, Tensor? weight, Tensor? bias, float eps, str activation, "
    "Tensor filters, int stride, int padding, int groups, bool moments) -> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)
# The gradients of x, mean, var, weight, bias and filters, as far as they are needed and exist; others are empty.
_LIBRARY.define(
    "narrow_conv_backward(Tensor grad, Tensor? grad_mean, Tensor? grad_var, Tensor out, Tensor out_mean, "
    "Tensor x, Tensor? mean, Tensor? var, Tensor? weight, Tensor? bias, float eps, str activation, "
    "Tensor filters, int stride, int padding, int groups, bool[6] needed) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=_TAGS,
)


@torch.library.register_fake("simroot::narrow_conv")
def empty_output(
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
    """Memory for the result and its moments."""
    height, width = ((size + 2 * padding - filters.shape[2]) // stride + 1 for size in x.shape[2:])
    shape = (x.shape[0], filters.shape[0], height, width)
    y = channels_last(x, shape)
    count = filters.shape[0] if moments else 0
    return y, x.new_empty(count), x.new_empty(count)


@torch.library.register_fake("simroot::narrow_conv_backward")
def empty_gradients(
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
    """Memory for the gradients."""
    vectors = [
        x.new_empty(x.shape[1] if tensor is not None and need else 0)
        for tensor, need in zip((mean, var, weight, bias), needed[1:5], strict=True)
    ]
    dx = torch.empty_like(x, memory_format=torch.channels_last) if any(needed[:5]) else x.new_empty(0)
    dfilters = filters.new_empty(filters.shape if needed[5] else (0,))
    return (dx, *vectors, dfilters)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, mean, var, weight, bias, ctx.eps, ctx.activation, filters, *settings, ctx.moments = inputs
    ctx.settings = tuple(settings)
    out, out_mean, _ = output
    ctx.set_materialize_grads(False)
    # Without moments the result is not needed again; an empty tensor takes its place.
    ctx.save_for_backward(x, mean, var, weight, bias, filters, out if ctx.moments else out_mean, out_mean)


def _differentiate(
    ctx: Any, grad: Tensor | None, grad_mean: Tensor | None, grad_var: Tensor | None
) -> tuple[Tensor | None, ...]:
    *tensors, out, out_mean = ctx.saved_tensors
    needed = [ctx.needs_input_grad[place] for place in (0, 1, 2, 3, 4, 7)]
    if not ctx.moments:
        grad_mean = grad_var = None
    found: Sequence[Tensor | None]
    with no_autocast(tensors[0]):
        if plain_gradient():
            found = differentiable_vjp(partial(_plain, ctx), tensors, (grad, grad_mean, grad_var), needed)
        else:
            found = _once(ctx, tensors, out, out_mean, grad, grad_mean, grad_var, needed)
    dx, dmean, dvar, dweight, dbias, dfilters = (
        item if need else None for item, need in zip(found, needed, strict=True)
    )
    return dx, dmean, dvar, dweight, dbias, None, None, dfilters, None, None, None, None


def _plain(
    ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, filters: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The convolution and its moments by PyTorch's operations."""
    stride, padding, groups = ctx.settings
    y = plain_conv(x, filters, stride, padding, groups, Norm(mean, var, weight, bias, ctx.eps, ctx.activation))
    return y, y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)


def _once(
    ctx: Any,
    tensors: list[Any],
    out: Tensor,
    out_mean: Tensor,
    grad: Tensor | None,
    grad_mean: Tensor | None,
    grad_var: Tensor | None,
    needed: list[bool],
) -> Sequence[Tensor | None]:
    x, mean, var, weight, bias, filters = tensors
    if grad is None:
        if grad_mean is None and grad_var is None:
            return [None] * 6
        grad = torch.zeros_like(out)
    return torch.ops.simroot.narrow_conv_backward(
        grad, grad_mean, grad_var, out, out_mean, x, mean, var, weight, bias, ctx.eps, ctx.activation, filters,
        *ctx.settings, needed,
    )  # fmt: skip


torch.library.register_autograd("simroot::narrow_conv", _differentiate, setup_context=_keep)
