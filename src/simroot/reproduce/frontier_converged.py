"""The frontier after long trainings: our best networks against the strongest rivals at four numbers of parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from simroot.data import ImageData
from simroot.design import frontier
from simroot.design.budgets import Budget
from simroot.design.families import ANSWERS, FAMILIES, RIVALS
from simroot.reproduce.compact_frontier import BUDGETS
from simroot.trials.experiment import Experiment, Finished, Report
from simroot.trials.networks import Network
from simroot.trials.runs import Trial

# Share of the epochs at the larger budgets, whose networks take longer.
_SHARES = {65_000: 0.5, 270_000: 0.1}

# The families that lead after ten epochs, and the twin that says what a SimNet's head is worth.
_LEADING = ("simnet_mixed, root 4", "simnet_mobile", "simnet_mixed_twin, root 4", "mobilenet_v3_compact", "resnet")


@functools.cache
def networks(budget: int) -> tuple[Network, ...]:
    """The leading families', our answer's and the rivals' networks within a budget."""
    leading = [family for name in _LEADING for family in FAMILIES if family.name == name]
    return tuple(family.at(Budget(parameters=budget)) for family in (*leading, *ANSWERS, *RIVALS))


def _trials(epochs: int, seed: int) -> list[Trial]:
    return frontier.trials({budget: networks(budget) for budget in BUDGETS}, _SHARES, epochs, seed)


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    return frontier.report({f"{budget:,}": networks(budget) for budget in BUDGETS}, finished, data)


EXPERIMENT = Experiment(
    "SimNets and the strongest rivals within small budgets, trained to the end", 200, _trials, _report
)
