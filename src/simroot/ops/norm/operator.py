"""The operator `simroot::batch_norm_act`: schema, shapes and derivatives.

It normalises by the statistics of the batch. Images are channels-last. Second derivatives go through PyTorch's
operations. `cpu` has the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from simroot.ops.common import differentiable_vjp, no_autocast, plain_gradient
from simroot.ops.norm.plain import plain_batch_norm_act

_LIBRARY = torch.library.Library("simroot", "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag,)

# y, and mean and variance (divided by the number of rows) of x.
_LIBRARY.define(
    "batch_norm_act(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, float eps, str activation) "
    "-> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)
# The gradients of x, weight, bias and residual; those that are not needed are empty.
_LIBRARY.define(
    "batch_norm_act_backward(Tensor grad, Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, Tensor mean, "
    "Tensor var, float eps, str activation, bool[4] needed) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=_TAGS,
)


@torch.library.register_fake("simroot::batch_norm_act")
def empty_output(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for the result and the statistics."""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    return y, x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


@torch.library.register_fake("simroot::batch_norm_act_backward")
def empty_gradients(
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
    """Memory for the gradients that are needed."""
    last, channels = torch.channels_last, x.shape[1]
    return (
        torch.empty_like(x, memory_format=last) if needed[0] else x.new_empty(0),
        x.new_empty(channels if needed[1] else 0),
        x.new_empty(channels if needed[2] else 0),
        torch.empty_like(x, memory_format=last) if needed[3] else x.new_empty(0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.activation = inputs
    _, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    ctx.save_for_backward(*tensors, mean, var)


def _differentiate(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, mean, var = ctx.saved_tensors
    needed = ctx.needs_input_grad[:4]
    with no_autocast(grad):
        if plain_gradient():
            plain = partial(plain_batch_norm_act, eps=ctx.eps, activation=ctx.activation)
            return (*differentiable_vjp(plain, tensors, grad, needed), None, None)
        found = torch.ops.simroot.batch_norm_act_backward(grad, *tensors, mean, var, ctx.eps, ctx.activation, needed)
    return (*(item if need else None for item, need in zip(found, needed, strict=True)), None, None)


torch.library.register_autograd("simroot::batch_norm_act", _differentiate, setup_context=_keep)
