"""MEX on the CPU by native kernels: the implementations of `operator` for float32."""

from __future__ import annotations

from ctypes import c_int, c_int64, c_void_p
from functools import partial
from typing import Any

import torch
from torch import Tensor

from simroot.ops.mex.operator import Size, channels_last
from simroot.ops.native import run

_run = partial(run, purpose="a MEX kernel")

_DENSE = (c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)
_DENSE_BACKWARD = (*[c_void_p] * 4, c_int64, c_int64, c_int64, *[c_void_p] * 3)
_POOL = (c_void_p, c_void_p, c_int, c_void_p, c_void_p)
_POOL_BACKWARD = (c_void_p, c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_void_p)


@torch.library.impl("simroot::mex_dense", "cpu")
def _mex_dense(x: Tensor, offsets: Tensor, beta: Tensor) -> Tensor:
    x, offsets, beta = x.contiguous(), offsets.contiguous(), beta.contiguous()
    out = x.new_empty((x.shape[0], offsets.shape[0]))
    _run(
        "mex_dense_forward",
        _DENSE,
        *_pointers(x, offsets, beta),
        *_sizes(x, offsets),
        out.data_ptr(),
    )
    return out


@torch.library.impl("simroot::mex_dense_backward", "cpu")
def _mex_dense_backward(
    grad: Tensor, x: Tensor, offsets: Tensor, beta: Tensor, beta_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad, x, offsets, beta = grad.contiguous(), x.contiguous(), offsets.contiguous(), beta.contiguous()
    dx, doffsets, dbeta = torch.empty_like(x), torch.empty_like(offsets), torch.zeros_like(beta)
    _run(
        "mex_dense_backward",
        _DENSE_BACKWARD,
        *_pointers(grad, x, offsets, beta),
        *_sizes(x, offsets),
        *_pointers(dx, doffsets),
        dbeta.data_ptr() if beta_needed else None,
    )
    return dx, doffsets, dbeta


@torch.library.impl("simroot::mex_pool2d", "cpu")
def _mex_pool(x: Tensor, beta: Tensor, kernel_size: Size, stride: Size, padding: Size, size: Size) -> Tensor:
    x, beta = x.contiguous(memory_format=torch.channels_last), beta.contiguous()
    out = channels_last(x, (*x.shape[:2], *size))
    _run(
        "mex_pool_forward",
        _POOL,
        *_pointers(x, beta),
        int(beta.numel() > 1),
        _geometry(x, out, kernel_size, stride, padding),
        out.data_ptr(),
    )
    return out


@torch.library.impl("simroot::mex_pool2d_backward", "cpu")
def _mex_pool_backward(
    grad: Tensor, x: Tensor, beta: Tensor, kernel_size: Size, stride: Size, padding: Size, beta_needed: bool
) -> tuple[Tensor, Tensor]:
    grad, x = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (grad, x))
    beta = beta.contiguous()
    dx, dbeta = channels_last(x, x.shape), torch.zeros_like(beta)
    _run(
        "mex_pool_backward",
        _POOL_BACKWARD,
        *_pointers(grad, x, beta),
        int(beta.numel() > 1),
        _geometry(x, grad, kernel_size, stride, padding),
        dx.data_ptr(),
        dbeta.data_ptr() if beta_needed else None,
    )
    return dx, dbeta


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _sizes(x: Tensor, offsets: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], offsets.shape[0]


def _geometry(x: Tensor, out: Tensor, kernel_size: Size, stride: Size, padding: Size) -> Any:
    count, channels, height, width = x.shape
    sizes = (count, height, width, channels, out.shape[2], out.shape[3], *kernel_size, *stride, *padding)
    return (c_int64 * 12)(*sizes)
