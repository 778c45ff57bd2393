"""MEX on the CPU by native kernels: the implementations of `operator` for float32."""

from __future__ import annotations

import torch
from torch import Tensor

from simroot.ops.common import channels_last
from simroot.ops.mex.operator import Size
from simroot.ops.native import run

_PURPOSE = "a MEX kernel"


@torch.library.impl("simroot::mex_dense", "cpu")
def _mex_dense(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    x, offsets, beta = x.contiguous(), offsets.contiguous(), beta.contiguous()
    out = x.new_empty((x.shape[0], offsets.shape[0]))
    run("mex_dense_forward", _PURPOSE, x=x, offsets=offsets, beta=beta, out=out, **_sizes(x, offsets))
    return out


@torch.library.impl("simroot::mex_dense_backward", "cpu")
def _mex_dense_backward(
    grad: Tensor, x: Tensor, offsets: Tensor, beta: Tensor, beta_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad, x, offsets, beta = grad.contiguous(), x.contiguous(), offsets.contiguous(), beta.contiguous()
    dx, doffsets, dbeta = torch.empty_like(x), torch.empty_like(offsets), torch.zeros_like(beta)
    results = {"dx": dx, "doffsets": doffsets, "dbeta": dbeta if beta_needed else None}
    run("mex_dense_backward", _PURPOSE, grad=grad, x=x, offsets=offsets, beta=beta, **results, **_sizes(x, offsets))
    return dx, doffsets, dbeta


@torch.library.impl("simroot::mex_pool2d", "cpu")
def _mex_pool(x: Tensor, beta: Tensor, kernel_size: Size, stride: Size, padding: Size, size: Size) -> Tensor:
    x, beta = x.contiguous(memory_format=torch.channels_last), beta.contiguous()
    out = channels_last(x, (*x.shape[:2], *size))
    run("mex_pool_forward", _PURPOSE, x=x, beta=beta, out=out, **_geometry(x, out, beta, kernel_size, stride, padding))
    return out


@torch.library.impl("simroot::mex_pool2d_backward", "cpu")
def _mex_pool_backward(
    grad: Tensor, x: Tensor, beta: Tensor, kernel_size: Size, stride: Size, padding: Size, beta_needed: bool
) -> tuple[Tensor, Tensor]:
    grad, x = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (grad, x))
    beta = beta.contiguous()
    dx, dbeta = channels_last(x, x.shape), torch.zeros_like(beta)
    results = {"dx": dx, "dbeta": dbeta if beta_needed else None}
    geometry = _geometry(x, grad, beta, kernel_size, stride, padding)
    run("mex_pool_backward", _PURPOSE, grad=grad, x=x, beta=beta, **results, **geometry)
    return dx, dbeta


def _sizes(x: Tensor, offsets: Tensor) -> dict[str, int]:
    return {"rows": x.shape[0], "channels": x.shape[1], "outputs": offsets.shape[0]}


def _geometry(x: Tensor, out: Tensor, beta: Tensor, kernel_size: Size, stride: Size, padding: Size) -> dict[str, int]:
    images, channels, height, width = x.shape
    return {
        "beta_per_channel": int(beta.numel() > 1), "images": images, "height": height, "width": width,
        "channels": channels, "out_height": out.shape[2], "out_width": out.shape[3],
        "kernel_height": kernel_size[0], "kernel_width": kernel_size[1],
        "stride_height": stride[0], "stride_width": stride[1],
        "padding_height": padding[0], "padding_width": padding[1],
    }  # fmt: skip
