"""Deployment: the network as it runs on a device, without what only training needs."""

from __future__ import annotations

import copy

from torch import nn

from simroot.layers import NormalisedConv2d
from simroot.modules import replace_modules


def deploy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode in which every normalisation of ``simroot.layers`` is folded into its neighbours.

    Its outputs are those of ``model.eval()`` but for rounding. Networks that hold no such normalisation are copied
    unchanged.

    Args:
        model: any network; it stays as it is.
    """
    return replace_modules(copy.deepcopy(model).eval(), _folded)


def _folded(module: nn.Module) -> nn.Module | None:
    if isinstance(module, NormalisedConv2d):
        return module.fold()
    if any("fold" in vars(kind) and kind.__module__.startswith("simroot.") for kind in type(module).__mro__):
        module.fold()  # type: ignore[operator]
        return module
    return None  # modules of others may call something else "fold"
