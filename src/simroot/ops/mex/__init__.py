"""MEX, the log-mean-exp operator of Deep SimNets (section 2, equation 1), over axes and as a dense layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from simroot.errors import ConfigError
from simroot.ops.common import beta_tensor, cast, no_autocast, precision, recording, transformed, without_branches
from simroot.ops.gpu import has_triton
from simroot.ops.mex.along_axis import log_mean_exp
from simroot.ops.mex.dense import mex_dense_rows, plain_mex_dense, summed_mex_dense
from simroot.ops.native import has_native

Beta = float | Tensor


def mex(x: Tensor, beta: Beta, *, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    r"""Log-mean-exp over one or more axes (Deep SimNets, equation 1).

    .. math:: \text{MEX}_\beta\{c_i\} = \frac{1}{\beta} \log \frac{1}{n} \sum_{i=1}^n e^{\beta c_i}

    The mean at beta = 0, the maximum at +inf, the minimum at -inf, where tied elements share the gradient as in
    `torch.amax`. Accurate for every beta in between, and differentiable in it: the derivative tends to half the
    variance at 0 and to 0 at +-inf. Half precision is computed in float32, and so is everything under autocast.

    Args:
        x: Any shape, of finite values or -inf below a finite largest one (beta > 0: it counts as e^-inf = 0).
        beta: A number, or a tensor that broadcasts to the result.
        dim: The axis or axes to reduce, of at least one element each.
        keepdim: Whether reduced axes stay with length 1.

    Returns:
        `x` reduced over `dim`.

    Raises:
        ConfigError: If `dim` names no axis of `x` or an empty one, or `beta` does not broadcast to the result.
    """
    if has_torch_function((x, beta)):
        return handle_torch_function(mex, (x, beta), x, beta, dim=dim, keepdim=keepdim)
    dims = _axes(x, dim)
    kept = torch.Size(1 if axis in dims else size for axis, size in enumerate(x.shape))
    reduced = torch.Size(size for axis, size in enumerate(x.shape) if axis not in dims)
    if isinstance(beta, Tensor):
        beta = beta.expand(_broadcast(beta, kept if keepdim else reduced)).reshape(kept)
    if x.is_meta:
        return x.new_empty(kept if keepdim else reduced)
    compute, result = precision(x)
    with no_autocast(x):
        out = reduce(x.to(compute), beta, dims)
    return out.to(result).reshape(kept if keepdim else reduced)


def reduce(x: Tensor, beta: Beta, dims: tuple[int, ...]) -> Tensor:
    """MEX over `dims`, which stay with length 1; a tensor `beta` broadcasts to that shape."""
    constant = constant_beta(beta)
    if constant == 0:
        return x.mean(dims, keepdim=True)
    if constant is not None and math.isinf(constant):
        return x.amax(dims, keepdim=True) if constant > 0 else x.amin(dims, keepdim=True)
    kept = torch.Size(1 if axis in dims else size for axis, size in enumerate(x.shape))
    beta = beta_tensor(beta, x).expand(kept)
    if len(dims) == 1:
        return log_mean_exp(x, beta, dims[0])
    last = tuple(range(-len(dims), 0))
    rows = x.movedim(dims, last).flatten(-len(dims))
    return log_mean_exp(rows, beta.movedim(dims, last).flatten(-len(dims)), -1).view(beta.shape)


def constant_beta(beta: Beta) -> float | None:
    """`beta` as a number if it is one number that is not being learned."""
    if not isinstance(beta, Tensor):
        return float(beta)
    learned = beta.requires_grad and torch.is_grad_enabled()
    return None if learned or beta.numel() != 1 or without_branches() else float(beta.item())


def mex_dense(x: Tensor, offsets: Tensor, beta: Beta) -> Tensor:
    r"""MEX over the channels of x with a vector of offsets per output (Deep SimNets, section 2, the MEX operator).

    .. math:: y_r = \text{MEX}_\beta \{x_c + b_{rc}\}_{c=1..C}

    Computed as a matrix product of exponentials relative to the largest; entries that underflow in it (inputs and
    offsets widely spread, with their peaks at different channels) are recomputed from their sums, in the gradient too.
    Near beta = 0 the exponentials are taken around the means. No tensor of (rows, R, C) exists except for second
    derivatives.

    Args:
        x: (N, C) or (N, C, H, W).
        offsets: b, (R, C).
        beta: A number or a tensor of one element: any real number, 0 (mean), +inf (maximum) or -inf (minimum).

    Returns:
        (N, R) or (N, R, H, W).

    Raises:
        ConfigError: If the shapes do not fit together.
    """
    if has_torch_function((x, offsets, beta)):
        return handle_torch_function(mex_dense, (x, offsets, beta), x, offsets, beta)
    if x.ndim not in (2, 4):
        raise ConfigError(f"x is {tuple(x.shape)}, expected (N, C) or (N, C, H, W)")
    if offsets.ndim != 2 or offsets.shape[1] != x.shape[1] or not offsets.numel():
        raise ConfigError(
            f"offsets are {tuple(offsets.shape)}, expected (R, {x.shape[1]}): one per output and channel of x, "
            f"which is {tuple(x.shape)}"
        )
    if isinstance(beta, Tensor) and beta.numel() != 1:
        raise ConfigError(f"beta has shape {tuple(beta.shape)}, expected a number or a tensor of one element")
    compute, result = precision(x, offsets)
    if x.is_meta:
        return x.new_empty((len(x), len(offsets), *x.shape[2:]), dtype=result)
    with no_autocast(x):
        x = cast(x, compute)
        rows = x if x.ndim == 2 else x.movedim(1, -1).reshape(-1, x.shape[1])
        out = cast(_dense(rows, cast(offsets, compute), beta), result)
    return out if x.ndim == 2 else out.view(len(x), *x.shape[2:], len(offsets)).movedim(-1, 1)


def _dense(x: Tensor, offsets: Tensor, beta: Beta) -> Tensor:
    if recording() and not isinstance(beta, Tensor) and math.isinf(beta):
        return reduce(x.unsqueeze(1) + offsets, beta, (2,)).squeeze(2)
    compute: Callable[[Tensor, Tensor, Tensor], Tensor] = mex_dense_rows
    if has_native(x) or has_triton(x):
        compute = torch.ops.simroot.mex_dense
    elif recording():
        compute = plain_mex_dense
    elif transformed():
        compute = summed_mex_dense
    b = beta_tensor(beta, x)
    return compute(x, offsets, b if b.ndim == 0 else b.reshape(()))


def _axes(x: Tensor, dim: int | Sequence[int]) -> tuple[int, ...]:
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    if not given or any(not -x.ndim <= axis < x.ndim for axis in given):
        raise ConfigError(f"dim is {dim!r}, expected one or more axes of x, which is {tuple(x.shape)}")
    axes = tuple(sorted({axis % x.ndim for axis in given}))
    if any(x.shape[axis] == 0 for axis in axes):
        raise ConfigError(f"x is {tuple(x.shape)}: there is no MEX over an empty axis, and dim is {dim!r}")
    return axes


def _broadcast(beta: Tensor, shape: torch.Size) -> torch.Size:
    try:
        fits = torch.broadcast_shapes(beta.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ConfigError(f"beta is {tuple(beta.shape)}, which does not broadcast to the result, {tuple(shape)}")
    return shape
