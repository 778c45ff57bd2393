"""The best SimNet against the ConvNets that one would take today, at four numbers of parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from simroot.data import ImageData
from simroot.design import frontier
from simroot.design.budgets import Budget
from simroot.design.families import FAMILIES
from simroot.trials.experiment import Experiment, Finished, Report
from simroot.trials.networks import Network
from simroot.trials.runs import Trial

# Largest numbers of parameters.
BUDGETS = (5_000, 20_000, 65_000, 270_000)

# Share of the epochs at the largest budget, whose networks take four times as long.
_SHARES = {270_000: 0.5}


@functools.cache
def networks(budget: int) -> tuple[Network, ...]:
    """Every family's network within a budget."""
    return tuple(family.at(Budget(parameters=budget)) for family in FAMILIES)


def _trials(epochs: int, seed: int) -> list[Trial]:
    return frontier.trials({budget: networks(budget) for budget in BUDGETS}, _SHARES, epochs, seed)


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    return frontier.report({f"{budget:,}": networks(budget) for budget in BUDGETS}, finished, data)


EXPERIMENT = Experiment("SimNets and today's ConvNets within small budgets", 10, _trials, _report)
