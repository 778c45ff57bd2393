"""The operators of a squeeze-excitation before a 1 x 1 convolution: schemas, shapes and derivatives.

``f(norm(x))`` is never in memory. `norm_pool` takes its means, and stands for it to autograd by a second result: zeros
without memory, whose gradient is that by ``f(norm(x))``. `gated_conv` takes this result as what is added to f(norm(x)),
and x and the normalisation as constants. So the gradients of what reads f(norm(x)), the gate and the convolution, come
together in the backward pass of `norm_pool`, which finds that of x. `cpu` has the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from simroot.ops.common import channels_last, differentiable_vjp, no_autocast, plain_gradient
from simroot.ops.narrow.plain import Norm

_LIBRARY = torch.library.Library("simroot", "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag,)

_NORM = "Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps, str activation"
# The means (N, C), and what stands for f(norm(x)).
_LIBRARY.define(f"norm_pool(Tensor x, {_NORM}) -> (Tensor, Tensor)", tags=_TAGS)
# The gradients of x, mean, var, weight and bias; those that are not needed are empty.
_LIBRARY.define(
    f"norm_pool_backward(Tensor grad, Tensor? grad_pooled, Tensor x, {_NORM}, bool[5] needed) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=_TAGS,
)
# The convolution of (f(norm(x)) + added) gate, whose `added` is 0, and its moments; they are empty if not wanted.
_LIBRARY.define(
    f"gated_conv(Tensor added, Tensor x, {_NORM}, Tensor gate, Tensor filters, bool moments) "
    "-> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)
# The gradients of added, gate and filters; those of the filters are empty if they are not needed.
_LIBRARY.define(
    f"gated_conv_backward(Tensor grad, Tensor? grad_mean, Tensor? grad_var, Tensor out, Tensor out_mean, Tensor x, "
    f"{_NORM}, Tensor gate, Tensor filters, bool[3] needed) -> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)


@torch.library.register_fake("simroot::norm_pool")
def empty_means(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor]:
    """Memory for the means, and zeros without any."""
    return x.new_empty(x.shape[:2]), x.new_zeros(()).expand(x.shape)


@torch.library.register_fake("simroot::norm_pool_backward")
def empty_gradients(
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
    """Memory for the gradients; that of x is always found."""
    vectors = (x.new_empty(x.shape[1] if need else 0) for need in needed[1:])
    return (torch.empty_like(x, memory_format=torch.channels_last), *vectors)


@torch.library.register_fake("simroot::gated_conv")
def empty_output(
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
    """Memory for the result and its moments."""
    shape = (x.shape[0], filters.shape[0], *x.shape[2:])
    y = channels_last(x, shape)
    count = filters.shape[0] if moments else 0
    return y, x.new_empty(count), x.new_empty(count)


@torch.library.register_fake("simroot::gated_conv_backward")
def empty_gated_gradients(
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
    """Memory for the gradients."""
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    return dx, torch.empty_like(gate), filters.new_empty(filters.shape if needed[2] else (0,))


def plain_pool(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor]:
    """The means and f(norm(x)) itself."""
    y = Norm(mean, var, weight, bias, eps, activation)(x)
    return y.mean((2, 3)), y


def plain_gated(x: Tensor, norm: Norm, added: Tensor, gate: Tensor, filters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The convolution and its moments."""
    y = torch.nn.functional.conv2d((norm(x) + added) * gate[:, :, None, None], filters)
    return y, y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)


def _keep_pool(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.activation = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _differentiate_pool(ctx: Any, grad_pooled: Tensor | None, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[:5]
    with no_autocast(tensors[0]):
        if plain_gradient():
            plain = partial(plain_pool, eps=ctx.eps, activation=ctx.activation)
            found = differentiable_vjp(plain, tensors, (grad_pooled, grad), needed)
        elif grad is None and grad_pooled is None:
            found = [None] * 5
        else:
            grad = torch.zeros_like(tensors[0]) if grad is None else grad
            found = torch.ops.simroot.norm_pool_backward(
                grad, grad_pooled, *tensors, ctx.eps, ctx.activation, list(needed)
            )
    return (*(item if need else None for item, need in zip(found, needed, strict=True)), None, None)


def _keep_gated(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    added, *tensors, ctx.eps, ctx.activation, gate, filters, ctx.moments = inputs
    out, out_mean, _ = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(added, *tensors, gate, filters, out if ctx.moments else out_mean, out_mean)


def _differentiate_gated(
    ctx: Any, grad: Tensor | None, grad_mean: Tensor | None, grad_var: Tensor | None
) -> tuple[Tensor | None, ...]:
    added, *tensors, gate, filters, out, out_mean = ctx.saved_tensors
    needed = [ctx.needs_input_grad[place] for place in (0, 8, 9)]
    if not ctx.moments:
        grad_mean = grad_var = None
    with no_autocast(gate):
        if plain_gradient():
            x, mean, var, weight, bias = tensors
            plain = partial(plain_gated, x, Norm(mean, var, weight, bias, ctx.eps, ctx.activation))
            found = differentiable_vjp(plain, (added, gate, filters), (grad, grad_mean, grad_var), needed)
        elif grad is None and grad_mean is None and grad_var is None:
            found = [None] * 3
        else:
            grad = torch.zeros_like(out) if grad is None else grad
            found = torch.ops.simroot.gated_conv_backward(
                grad, grad_mean, grad_var, out, out_mean, *tensors, ctx.eps, ctx.activation, gate, filters, needed
            )
    dadded, dgate, dfilters = (item if need else None for item, need in zip(found, needed, strict=True))
    return (dadded, *[None] * 7, dgate, dfilters, None)


torch.library.register_autograd("simroot::norm_pool", _differentiate_pool, setup_context=_keep_pool)
torch.library.register_autograd("simroot::gated_conv", _differentiate_gated, setup_context=_keep_gated)
