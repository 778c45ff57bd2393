"""Deployment: the network as it runs on a device, without what only training needs."""

from __future__ import annotations

import copy

from torch import nn

from simroot.layers import NormalisedConv2d


def deploy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode in which every normalisation of ``simroot.layers`` is folded into its neighbours.

    Its outputs are those of ``model.eval()`` but for rounding. Networks that hold no such normalisation are copied
    unchanged.

    Args:
        model: any network; it stays as it is.
    """
    return _fold(copy.deepcopy(model).eval())


def _fold(module: nn.Module) -> nn.Module:
    if isinstance(module, NormalisedConv2d):
        return module.fold()
    if callable(fold := getattr(module, "fold", None)):
        fold()
        return module
    for name, child in module.named_children():
        setattr(module, name, _fold(child))
    return module
