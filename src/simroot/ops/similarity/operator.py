"""The l_p similarity as an operator of PyTorch's dispatcher, ``simroot::lp``: schema, shapes and derivatives.

Kernels for a device are registered elsewhere, for ``simroot::lp`` and ``simroot::lp_backward``. Images, results and
gradients of images are channels-last; a kernel makes its arguments so where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from simroot.ops.common import channels_last, differentiable_vjp, no_autocast, plain_gradient
from simroot.ops.similarity.plain import Geometry, plain_lp

# x is padded already. An order given as a tensor of one element takes the place of p and may require gradient.
torch.library.define(
    "simroot::lp",
    "(Tensor x, Tensor templates, Tensor? weights, Tensor? bias, Tensor? order, float p, "
    "SymInt[2] stride, SymInt groups) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
# Gradients of x, templates, weights, bias and order; those that are not needed are empty.
torch.library.define(
    "simroot::lp_backward",
    "(Tensor grad, Tensor x, Tensor templates, Tensor? weights, Tensor? order, float p, "
    "SymInt[2] stride, SymInt groups, bool[5] needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def empty_output(x: Tensor, templates: Tensor, stride: Sequence[int]) -> Tensor:
    """(N, R, H', W') for the result, channels-last."""
    (count, _, height, width), (r, _, kh, kw) = x.shape, templates.shape
    size = (count, r, (height - kh) // stride[0] + 1, (width - kw) // stride[1] + 1)
    return channels_last(x, size)


def empty_gradients(
    x: Tensor, templates: Tensor, weights: Tensor | None, order: Tensor | None, needed: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Tensors for the gradients that are needed, empty ones for the others."""
    bias = templates.new_empty((len(templates),)) if needed[3] else templates.new_empty((0,))
    return (
        torch.empty_like(x, memory_format=torch.channels_last) if needed[0] else x.new_empty((0,)),
        templates.new_empty(templates.shape if needed[1] else (0,)),
        templates.new_empty(templates.shape if weights is not None and needed[2] else (0,)),
        bias,
        x.new_empty((0,)) if order is None or not needed[4] else order.new_empty(order.shape),
    )


@torch.library.register_fake("simroot::lp")
def _(
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    bias: Tensor | None,
    order: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
) -> Tensor:
    return empty_output(x, templates, stride)


@torch.library.register_fake("simroot::lp_backward")
def _(
    grad: Tensor,
    x: Tensor,
    templates: Tensor,
    weights: Tensor | None,
    order: Tensor | None,
    p: float,
    stride: Sequence[int],
    groups: int,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    return empty_gradients(x, templates, weights, order, needed)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, templates, weights, _, order, *ctx.settings = inputs
    ctx.save_for_backward(x, templates, weights, order)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    p, stride, groups = ctx.settings
    needed = ctx.needs_input_grad[:5]
    if not plain_gradient():
        found = torch.ops.simroot.lp_backward(grad, *tensors, p, stride, groups, needed)
        return (*(item if need else None for item, need in zip(found, needed, strict=True)), None, None, None)
    templates = tensors[1]
    shape = Geometry((templates.shape[2], templates.shape[3]), (stride[0], stride[1]), groups)

    def again(x: Tensor, z: Tensor, u: Tensor | None, order: Tensor | None) -> Tensor:
        return plain_lp(x, z, u, p if order is None else order, shape)

    with no_autocast(grad):
        *rest, order = differentiable_vjp(again, tensors, grad, (*needed[:3], needed[4]))
    return (*rest, grad.sum((0, 2, 3)) if needed[3] else None, order, None, None, None)


torch.library.register_autograd("simroot::lp", _backward, setup_context=_setup_context)
