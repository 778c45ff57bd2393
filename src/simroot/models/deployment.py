"""Deployment: the network as it runs on a device, without what only training needs."""

from __future__ import annotations

import copy

from torch import nn

from simroot.errors import ConfigError
from simroot.layers import Foldable
from simroot.modules import replace_modules


def deploy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with what it folds into in the place of every ``Foldable`` module.

    Its outputs are those of ``model.eval()`` but for rounding. Networks that hold no such module are copied unchanged.

    Args:
        model: any network; it stays as it is.

    Raises:
        ConfigError: for a module whose ``folded()`` gives no module.
    """
    return deploy_in_place(copy.deepcopy(model))


def deploy_in_place(model: nn.Module) -> nn.Module:
    """``deploy`` of a network that nobody else needs, without a copy of it."""
    return replace_modules(model.eval(), _folded).eval()


def _folded(module: nn.Module) -> nn.Module | None:
    if not isinstance(module, Foldable):
        return None
    found: object = module.folded()
    if not isinstance(found, nn.Module):
        raise ConfigError(
            f"folded() of {type(module).__name__} gives a {type(found).__name__}; expected a module with the same "
            "outputs, as simroot.layers.Foldable says"
        )
    return found
