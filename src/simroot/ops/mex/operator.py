"""The operators `simroot::mex_dense` and `simroot::mex_pool2d`: what kernels for CPU and GPU implement.

Here are their schemas, shapes and derivatives. Second derivatives go through the plain path. `cpu` has the
CPU's kernels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from simroot.ops.common import channels_last, differentiable_vjp, no_autocast, plain_gradient
from simroot.ops.mex.dense import summed_mex_dense
from simroot.ops.mex.windows import plain_mex_pool

Size = list[int]

_LIBRARY = torch.library.Library("simroot", "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag,)

# (rows, C), (R, C) and beta of no dimension, all float32 -> (rows, R).
_LIBRARY.define("mex_dense(Tensor x, Tensor offsets, Tensor beta) -> Tensor", tags=_TAGS)
# The gradients of all three; that of beta is 0 unless it is needed.
_LIBRARY.define(
    "mex_dense_backward(Tensor grad, Tensor x, Tensor offsets, Tensor beta, bool beta_needed) "
    "-> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)
# (N, C, H, W) and beta of one element or (C, 1, 1), float32 -> (N, C, *size), channels-last.
_LIBRARY.define(
    "mex_pool2d(Tensor x, Tensor beta, SymInt[2] kernel, int[2] stride, int[2] padding, SymInt[2] size) -> Tensor",
    tags=_TAGS,
)
_LIBRARY.define(
    "mex_pool2d_backward(Tensor grad, Tensor x, Tensor beta, SymInt[2] kernel, int[2] stride, int[2] padding, "
    "bool beta_needed) -> (Tensor, Tensor)",
    tags=_TAGS,
)


@torch.library.register_fake("simroot::mex_dense")
def _mex_dense_shape(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], offsets.shape[0]))


@torch.library.register_fake("simroot::mex_dense_backward")
def _mex_dense_backward_shape(
    grad: Tensor, x: Tensor, offsets: Tensor, beta: Tensor, beta_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), offsets.new_empty(offsets.shape), beta.new_empty(beta.shape)


@torch.library.register_fake("simroot::mex_pool2d")
def _mex_pool_shape(x: Tensor, beta: Tensor, kernel: Size, stride: Size, padding: Size, size: Size) -> Tensor:
    return channels_last(x, (*x.shape[:2], *size))


@torch.library.register_fake("simroot::mex_pool2d_backward")
def _mex_pool_backward_shape(
    grad: Tensor, x: Tensor, beta: Tensor, kernel: Size, stride: Size, padding: Size, beta_needed: bool
) -> tuple[Tensor, Tensor]:
    return channels_last(x, x.shape), beta.new_empty(beta.shape)


def _keep_dense(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_dense(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    tensors, needed = ctx.saved_tensors, ctx.needs_input_grad
    with no_autocast(grad):
        if plain_gradient():
            return tuple(differentiable_vjp(summed_mex_dense, tensors, grad, needed))
        return torch.ops.simroot.mex_dense_backward(grad, *tensors, needed[2])


def _keep_pool(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, beta, ctx.kernel, ctx.stride, ctx.padding, ctx.size = inputs
    ctx.save_for_backward(x, beta)


def _differentiate_pool(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
    with no_autocast(grad):
        if plain_gradient():
            plain = partial(plain_mex_pool, kernel=ctx.kernel, stride=ctx.stride, padding=ctx.padding, size=ctx.size)
            found = differentiable_vjp(plain, tensors, grad, needed)
        else:
            windows = ctx.kernel, ctx.stride, ctx.padding
            found = torch.ops.simroot.mex_pool2d_backward(grad, *tensors, *windows, needed[1])
    return (*found, None, None, None, None)


torch.library.register_autograd("simroot::mex_dense", _differentiate_dense, setup_context=_keep_dense)
torch.library.register_autograd("simroot::mex_pool2d", _differentiate_pool, setup_context=_keep_pool)
