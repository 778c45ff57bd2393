"""The operator `simroot::pooled_norm`: schema, shapes and derivatives.

It normalises by the statistics of the batch. Images are channels-last. Second derivatives go through PyTorch's
operations. `cpu` has the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from simroot.ops.common import channels_last, differentiable_vjp, no_autocast, plain_gradient
from simroot.ops.norm.plain import plain_batch_norm_act

_LIBRARY = torch.library.Library("simroot", "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag,)

# y, and mean and variance (divided by the number of rows) of x.
_LIBRARY.define(
    "pooled_norm(Tensor x, Tensor? weight, Tensor? bias, float eps, str activation, bool maximum) "
    "-> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)
# The gradients of x, weight and bias; those that are not needed are empty.
_LIBRARY.define(
    "pooled_norm_backward(Tensor grad, Tensor x, Tensor? weight, Tensor? bias, Tensor mean, Tensor var, float eps, "
    "str activation, bool maximum, bool[3] needed) -> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)


@torch.library.register_fake("simroot::pooled_norm")
def empty_output(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, activation: str, maximum: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for the result and the statistics."""
    images, channels, height, width = x.shape
    shape = (images, channels, height // 2, width // 2)
    y = channels_last(x, shape)
    return y, x.new_empty(channels), x.new_empty(channels)


@torch.library.register_fake("simroot::pooled_norm_backward")
def empty_gradients(
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
    """Memory for the gradients that are needed."""
    dx = torch.empty_like(x, memory_format=torch.channels_last) if needed[0] else x.new_empty(0)
    dweight, dbias = (x.new_empty(x.shape[1] if need else 0) for need in needed[1:])
    return dx, dweight, dbias


def plain_pooled_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, activation: str, maximum: bool
) -> Tensor:
    """The result by PyTorch's operations."""
    y = plain_batch_norm_act(x, weight, bias, None, eps, activation)
    return F.max_pool2d(y, 2) if maximum else F.avg_pool2d(y, 2)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.activation, ctx.maximum = inputs
    _, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    ctx.save_for_backward(*tensors, mean, var)


def _differentiate(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, mean, var = ctx.saved_tensors
    needed = ctx.needs_input_grad[:3]
    how = ctx.eps, ctx.activation, ctx.maximum
    with no_autocast(grad):
        if plain_gradient():
            plain = partial(plain_pooled_norm, eps=ctx.eps, activation=ctx.activation, maximum=ctx.maximum)
            return (*differentiable_vjp(plain, tensors, grad, needed), None, None, None)
        found = torch.ops.simroot.pooled_norm_backward(grad, *tensors, mean, var, *how, needed)
    return (*(item if need else None for item, need in zip(found, needed, strict=True)), None, None, None)


torch.library.register_autograd("simroot::pooled_norm", _differentiate, setup_context=_keep)
