"""The operator `simroot::root_module`: schema, shapes and derivatives; and what it is where statistics are given.

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

# The result, z, and mean and variance (divided by the number of rows) of z.
_LIBRARY.define(
    "root_module(Tensor x, Tensor spatial, Tensor embedding, Tensor? weight, Tensor? bias, float eps, str activation, "
    "bool adds) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=_TAGS,
)
# The result by statistics that are given, without derivatives.
_LIBRARY.define(
    "root_module_evaluated(Tensor x, Tensor spatial, Tensor embedding, Tensor mean, Tensor var, Tensor? weight, "
    "Tensor? bias, float eps, str activation, bool adds) -> Tensor",
    tags=_TAGS,
)
# The gradients of x, spatial, embedding, weight and bias; those that are not needed are empty.
_LIBRARY.define(
    "root_module_backward(Tensor grad, Tensor x, Tensor spatial, Tensor embedding, Tensor? weight, Tensor? bias, "
    "Tensor z, Tensor mean, Tensor var, float eps, str activation, bool adds, bool[5] needed) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=_TAGS,
)


@torch.library.register_fake("simroot::root_module")
def empty_output(x: Tensor, spatial: Tensor, embedding: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory for the result, z and its statistics."""
    y, z = (empty_evaluated(x, spatial, embedding) for _ in range(2))
    return y, z, x.new_empty(embedding.shape[0]), x.new_empty(embedding.shape[0])


@torch.library.register_fake("simroot::root_module_evaluated")
def empty_evaluated(x: Tensor, spatial: Tensor, embedding: Tensor, *_: Any) -> Tensor:
    """Memory for the result."""
    return channels_last(x, (x.shape[0], embedding.shape[0], *x.shape[2:]))


@torch.library.register_fake("simroot::root_module_backward")
def empty_gradients(
    grad: Tensor,
    x: Tensor,
    spatial: Tensor,
    embedding: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    z: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    activation: str,
    adds: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Memory for the gradients that are needed."""
    dx = torch.empty_like(x, memory_format=torch.channels_last) if needed[0] else x.new_empty(0)
    filters = [
        one.new_empty(one.shape if need else (0,)) for one, need in zip((spatial, embedding), needed[1:3], strict=True)
    ]
    vectors = [x.new_empty(embedding.shape[0] if need else 0) for need in needed[3:]]
    return (dx, *filters, *vectors)


def plain_root_module(
    x: Tensor,
    spatial: Tensor,
    embedding: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str,
    adds: bool,
) -> Tensor:
    """The result by PyTorch's operations."""
    z = F.conv2d(F.conv2d(x, spatial, padding=1, groups=x.shape[1]), embedding)
    y = plain_batch_norm_act(z, weight, bias, None, eps, activation)
    return x + y if adds else y


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.activation, ctx.adds = inputs
    _, z, mean, var = output
    ctx.mark_non_differentiable(z, mean, var)
    ctx.set_materialize_grads(False)  # else there are zeros for z
    ctx.save_for_backward(*tensors, z, mean, var)


def _differentiate(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    *tensors, z, mean, var = ctx.saved_tensors
    needed = ctx.needs_input_grad[:5]
    how = ctx.eps, ctx.activation, ctx.adds
    with no_autocast(grad):
        if plain_gradient():
            plain = partial(plain_root_module, eps=ctx.eps, activation=ctx.activation, adds=ctx.adds)
            return (*differentiable_vjp(plain, tensors, grad, needed), None, None, None)
        found = torch.ops.simroot.root_module_backward(grad, *tensors, z, mean, var, *how, needed)
    return (*(item if need else None for item, need in zip(found, needed, strict=True)), None, None, None)


torch.library.register_autograd("simroot::root_module", _differentiate, setup_context=_keep)
