"""MEX pooling: local windows and whole images (Deep SimNets, section 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from simroot.errors import ConfigError
from simroot.ops.common import beta_tensor, cast, no_autocast, pair, precision
from simroot.ops.mex import Beta, constant_beta, reduce
from simroot.ops.mex.windows import plain_mex_pool
from simroot.ops.native import has_native


def mex_pool2d(
    x: Tensor,
    beta: Beta,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
) -> Tensor:
    r"""MEX over windows: average pooling at beta = 0, maximum at +inf, minimum at -inf, smooth in between.

    .. math:: y = \frac{1}{\beta} \log \frac{1}{n} \sum_{i \in \text{window}} e^{\beta x_i}

    n is the number of window positions that exist: padding and what `ceil_mode` adds never count.

    Args:
        x: (N, C, H, W).
        beta: A number, a tensor of one element, or a tensor (C,) with one for each channel.
        kernel_size: Window, an int or (height, width).
        stride: Step, an int or (vertical, horizontal); None takes the window's size.
        padding: Positions added on each side, at most half a window.
        ceil_mode: Whether a last window may reach beyond the image, as in `torch.nn.functional.max_pool2d`: it must
            start inside the image or its top or left padding.

    Returns:
        (N, C, H', W').

    Raises:
        ConfigError: If shapes or sizes do not fit together.
    """
    if has_torch_function((x, beta)):
        return handle_torch_function(
            mex_pool2d, (x, beta), x, beta, kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode
        )
    beta = _channel_beta(x, beta)
    kernel = pair(kernel_size, "kernel_size", 1)
    steps = kernel if stride is None else pair(stride, "stride", 1)
    pad = pair(padding, "padding", 0)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        raise ConfigError(f"padding is {padding}, expected at most half of kernel_size, which is {kernel_size}")
    sizes = [_windows(*sizes, ceil_mode) for sizes in zip(x.shape[2:], kernel, steps, pad, strict=True)]
    if min(sizes) < 1 or 0 in x.shape[2:]:
        raise ConfigError(
            f"windows of {kernel} do not fit into images of {tuple(x.shape[2:])} with padding {pad}; use a smaller "
            "kernel_size or larger images"
        )
    if x.is_meta:
        return x.new_empty((*x.shape[:2], *sizes))
    compute, result = precision(x)
    with no_autocast(x):
        x = cast(x, compute)
        constant = _constant(x, beta)
        if constant == 0:
            out = F.avg_pool2d(x, kernel, steps, pad, ceil_mode, count_include_pad=False)
        elif constant == math.inf:
            out = F.max_pool2d(x, kernel, steps, pad, ceil_mode=ceil_mode)
        elif constant == -math.inf:
            out = -F.max_pool2d(-x, kernel, steps, pad, ceil_mode=ceil_mode)
        else:
            pool = torch.ops.simroot.mex_pool2d if has_native(x) else plain_mex_pool
            out = pool(x, beta_tensor(beta, x), kernel, steps, pad, sizes)
        return cast(out, result)


def global_mex_pool2d(x: Tensor, beta: Beta) -> Tensor:
    """MEX over all positions of each channel: (N, C, H, W) -> (N, C) (Deep SimNets, section 4.1).

    Args:
        x: (N, C, H, W) with at least one position.
        beta: A number, a tensor of one element, or a tensor (C,) with one for each channel.

    Raises:
        ConfigError: If the shapes do not fit together.
    """
    if has_torch_function((x, beta)):
        return handle_torch_function(global_mex_pool2d, (x, beta), x, beta)
    beta = _channel_beta(x, beta)
    if not x.shape[2] * x.shape[3]:
        raise ConfigError(f"x is {tuple(x.shape)}: there is nothing to pool over")
    if x.is_meta:
        return x.new_empty(x.shape[:2])
    compute, result = precision(x)
    with no_autocast(x):
        x = cast(x, compute)
        if has_native(x) and _constant(x, beta) not in (0.0, math.inf, -math.inf):
            out = torch.ops.simroot.mex_pool2d(x, beta_tensor(beta, x), x.shape[2:], (1, 1), (0, 0), (1, 1))
        else:
            out = reduce(x, beta, (2, 3))
        return cast(out.flatten(1), result)


def _constant(x: Tensor, beta: Beta) -> float | None:
    """`beta` as a number if it is constant; native kernels take any value of a tensor without looking at it here."""
    return None if isinstance(beta, Tensor) and has_native(x) else constant_beta(beta)


def _channel_beta(x: Tensor, beta: Beta) -> Beta:
    if x.ndim != 4:
        raise ConfigError(f"x is {tuple(x.shape)}, expected (N, C, H, W)")
    if not isinstance(beta, Tensor):
        return beta
    if beta.numel() != 1 and beta.shape != (x.shape[1],):
        raise ConfigError(
            f"beta has shape {tuple(beta.shape)}, expected a number, one element, or ({x.shape[1]},): one per channel"
        )
    return beta.view(-1, 1, 1)


def _windows(size: int, kernel: int, step: int, pad: int, ceil_mode: bool) -> int:
    """How many windows there are along an axis, by PyTorch's rule."""
    room = size + 2 * pad - kernel
    if not ceil_mode:
        return room // step + 1
    count = -(-room // step) + 1
    return count - 1 if (count - 1) * step >= size + pad else count
