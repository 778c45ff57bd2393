"""The operator `simroot::window_pool`: schema, shapes and derivatives.

Images are channels-last. Second derivatives go through PyTorch's operations. `cpu` has the kernels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from simroot.ops.common import channels_last, differentiable_vjp, no_autocast, plain_gradient

_LIBRARY = torch.library.Library("simroot", "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag,)

_LIBRARY.define("window_pool(Tensor x, bool maximum) -> Tensor", tags=_TAGS)
_LIBRARY.define("window_pool_backward(Tensor grad, Tensor x, bool maximum) -> Tensor", tags=_TAGS)


@torch.library.register_fake("simroot::window_pool")
def empty_output(x: Tensor, maximum: bool) -> Tensor:
    """Memory for the result."""
    images, channels, height, width = x.shape
    shape = (images, channels, height // 2, width // 2)
    return channels_last(x, shape)


@torch.library.register_fake("simroot::window_pool_backward")
def empty_gradient(grad: Tensor, x: Tensor, maximum: bool) -> Tensor:
    """Memory for the gradient."""
    return torch.empty_like(x, memory_format=torch.channels_last)


def plain_window_pool(x: Tensor, maximum: bool) -> Tensor:
    """The result by PyTorch's operations."""
    return F.max_pool2d(x, 2) if maximum else F.avg_pool2d(x, 2)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.maximum = inputs
    ctx.save_for_backward(x)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
    (x,) = ctx.saved_tensors
    with no_autocast(grad):
        if plain_gradient():
            plain = partial(plain_window_pool, maximum=ctx.maximum)
            return differentiable_vjp(plain, [x], grad, [True])[0], None
        return torch.ops.simroot.window_pool_backward(grad, x, ctx.maximum), None


torch.library.register_autograd("simroot::window_pool", _differentiate, setup_context=_keep)
