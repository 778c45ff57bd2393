"""The widest network of a family that a number of parameters allows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import torch

from simroot.errors import ConfigError
from simroot.models import create_model, deploy

# Width, a whole number from 1 on -> overrides of the network, whose parameters rise with the width.
Widths = Callable[[int], Mapping[str, Any]]


def widest(model: str, budget: int, widths: Widths) -> Mapping[str, Any]:
    """Overrides of the family's largest network within a budget.

    Args:
        model: a name of ``simroot.models.list_models()``.
        budget: most parameters of the deployed network with the model's default classes.
        widths: the family.

    Raises:
        ConfigError: if even a width of 1 needs more.
    """
    if (least := parameters(model, widths(1))) > budget:
        raise ConfigError(f"the narrowest {model} has {least:,} parameters; expected a budget of at least as many")
    above = 2
    while parameters(model, widths(above)) <= budget:
        above *= 2
    candidates = range(above // 2, above)
    fitting = bisect_right(candidates, budget, key=lambda width: parameters(model, widths(width)))
    return widths(candidates[fitting - 1])


def parameters(model: str, overrides: Mapping[str, Any]) -> int:
    """Parameters of a registered network as deployed, with its default classes."""
    with torch.random.fork_rng(devices=[]):  # the weights are drawn for nothing
        network = deploy(create_model(model, **overrides))
    return sum(parameter.numel() for parameter in network.parameters())
