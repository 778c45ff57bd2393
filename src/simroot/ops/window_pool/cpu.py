"""Pooling over windows of 2 x 2 pixels on the CPU by native kernels: the implementations for float32."""

from __future__ import annotations

import torch
from torch import Tensor

from simroot.ops.native import laid_out, run
from simroot.ops.window_pool.operator import empty_gradient, empty_output

_PURPOSE = "a pooling"


@torch.library.impl("simroot::window_pool", "cpu")
def _window_pool(x: Tensor, maximum: bool) -> Tensor:
    out = empty_output(x, maximum)
    run("window_pool", _PURPOSE, **laid_out(x=x), out=out, **_sizes(x, maximum))
    return out


@torch.library.impl("simroot::window_pool_backward", "cpu")
def _backward(grad: Tensor, x: Tensor, maximum: bool) -> Tensor:
    dx = empty_gradient(grad, x, maximum)
    run("window_pool_backward", _PURPOSE, **laid_out(grad=grad, x=x), dx=dx, **_sizes(x, maximum))
    return dx


def _sizes(x: Tensor, maximum: bool) -> dict[str, int]:
    images, channels, height, width = x.shape
    return {"images": images, "height": height, "width": width, "channels": channels, "maximum": int(maximum)}
