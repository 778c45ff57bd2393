"""What all operators share: precision rules, argument checks, tile sizes and second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from operator import index
from typing import Any

import torch
from torch import Tensor

from simroot.borrowed.from_torch import forward_mode, transforms_active
from simroot.errors import ConfigError

# Half a megabyte of float32 for each thread: small enough for the caches, large enough that the time goes into
# arithmetic and not into calls; PyTorch splits element-wise work among threads in grains of 2^15.
_CPU_TILE = 2**17
_ACCELERATOR_TILE = 2**22


def tile_elements(device: torch.device) -> int:
    """Elements that a temporary tensor of a chunked loop should have on this device."""
    return _CPU_TILE * torch.get_num_threads() if device.type == "cpu" else _ACCELERATOR_TILE


def precision(*tensors: Tensor | None) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes to compute in and to return: half precision is computed in float32.

    Under autocast both are float32 (float64 stays): exponentials and powers of differences do not survive 8 or
    11 bits of mantissa.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    result = given[0].dtype
    for tensor in given[1:]:
        result = torch.promote_types(result, tensor.dtype)
    if not result.is_floating_point:
        raise ConfigError(f"got tensors of {result}, expected a floating point type; convert with .float()")
    compute = torch.promote_types(result, torch.float32)
    if not given[0].is_meta and torch.is_autocast_enabled(given[0].device.type):
        result = compute
    return compute, result


def no_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which the operations on `tensor`'s device keep the dtype of their arguments."""
    # Entering the other context takes longer than some operators.
    if tensor.is_meta or not torch.is_autocast_enabled(tensor.device.type):
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor.to(dtype)`, without the call where nothing changes: small tensors feel it."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def pair(value: int | Sequence[int], name: str, minimum: int) -> tuple[int, int]:
    """`value` or (value, value) as two ints, each at least `minimum`."""
    try:
        first, second = map(index, value if isinstance(value, Sequence) else (value, value))
    except (TypeError, ValueError):
        first = second = minimum - 1
    if min(first, second) < minimum:
        raise ConfigError(f"{name} is {value!r}, expected an int or a pair of ints >= {minimum}")
    return first, second


def windows(x: Tensor, kernel: Sequence[int], stride: Sequence[int], size: Sequence[int]) -> Tensor:
    """(N, C, H, W) as (kh kw, N, C, *size): all pixels at each position of the window."""
    (sh, sw), (height, width) = stride, size
    return torch.stack(
        [
            x[:, :, i : i + (height - 1) * sh + 1 : sh, j : j + (width - 1) * sw + 1 : sw]
            for i, j in product(*map(range, kernel))
        ]
    )


def recording() -> bool:
    """Whether a graph is being recorded for an engine."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is at work, which kernels know nothing of."""
    return forward_mode() or transforms_active()


def without_branches() -> bool:
    """Whether no value may be looked at, and all is done by PyTorch's operations."""
    return recording() or transformed()


def plain_gradient() -> bool:
    """Whether a backward pass, too, is done by PyTorch's operations, as it is differentiated again or batched."""
    return torch.is_grad_enabled() or transformed()


def beta_tensor(beta: float | Tensor, like: Tensor) -> Tensor:
    """`beta` as a tensor of the dtype and device of `like`; numbers beyond its range become 0 or infinite."""
    if isinstance(beta, Tensor):
        return cast(beta, like.dtype)
    return torch.tensor(beta, dtype=like.dtype, device=like.device)


def channels_last(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Memory for images of a shape, of the kind of others, channels-last."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def differentiable_vjp(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor | None],
    grads: Tensor | Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of `function` that can be differentiated again, if gradients are enabled, and batched.

    `grads` are those by its result, or by each of its results. Aliases stand for the inputs, so that one input that was
    computed from another is not followed back.
    """
    if isinstance(grads, Tensor):
        grads = (grads,)
    if not any(needed) or all(grad is None for grad in grads):
        return [None] * len(needed)
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases: list[Any] = [None if item is None else item.view_as(item) for item in inputs]
        wanted = [alias for alias, need in zip(aliases, needed, strict=True) if need]
        results = function(*aliases)
        results = (results,) if isinstance(results, Tensor) else results
        pairs = [(one, grad) for one, grad in zip(results, grads, strict=True) if grad is not None]
        outputs, given = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, given, create_graph=again))
    return [next(found) if need else None for need in needed]
