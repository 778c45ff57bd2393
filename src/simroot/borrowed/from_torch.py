"""What PyTorch has no public name for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from torch._C import _are_functorch_transforms_active as transforms_active  # kernels know nothing of torch.func
from torch._ops import OpOverload as OpOverload  # the class of what torch.ops holds: to tell it from a function
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm  # the base of torch's batch normalisations
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode  # sees every operator of a network
from torch.utils._pytree import tree_leaves as tree_leaves  # the tensors in any nest of lists, tuples and dictionaries

__all__ = [
    "AnyBatchNorm",
    "OpOverload",
    "TorchDispatchMode",
    "compile_every_kind",
    "constant_when_compiled",
    "forward_mode",
    "transforms_active",
    "tree_leaves",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def forward_mode() -> bool:
    """Whether forward-mode differentiation is at work. PyTorch has no question for it, only the level it is at."""
    return forward_ad._current_level >= 0


def constant_when_compiled(function: _Function) -> _Function:
    """``torch.compiler.assume_constant_result`` without its import of the whole compiler, which takes three seconds."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def compile_every_kind() -> AbstractContextManager[Any]:
    """Torch compiles a kind of network eight times and then runs it uncompiled; inside, every one is compiled."""
    import torch._dynamo.config as config  # slow to load, and seldom needed

    patch: AbstractContextManager[Any] = config.patch(recompile_limit=10**6, accumulated_recompile_limit=10**6)
    return patch
