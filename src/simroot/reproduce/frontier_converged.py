"""The frontier after long trainings: our best networks against the strongest rivals at four numbers of parameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from simroot.data import ImageData
from simroot.design import frontier
from simroot.design.budgets import Budget
from simroot.design.families import ANSWERS, FAMILIES, RIVALS
from simroot.reproduce.compact_frontier import BUDGETS
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, markdown_table
from simroot.trials.networks import Network, accuracy, trained
from simroot.trials.runs import Trial

# Share of the epochs at the larger budgets, whose networks take longer.
SHARES = {65_000: 0.5, 270_000: 0.1}

# The families that lead after ten epochs, and the twin that says what a SimNet's head is worth.
_LEADING = ("simnet_mixed, root 4", "simnet_mobile", "simnet_mixed_twin, root 4", "mobilenet_v3_compact", "resnet")

# A SimNet's family -> its twin's.
_TWINS = {
    "simnet_residual": "simnet_residual_twin",
    "simnet_mixed, root 4": "simnet_mixed_twin, root 4",
}


@functools.cache
def networks(budget: int) -> tuple[Network, ...]:
    """The leading families', our answer's and the rivals' networks within a budget."""
    leading = [family for name in _LEADING for family in FAMILIES if family.name == name]
    return tuple(family.at(Budget(parameters=budget)) for family in (*leading, *ANSWERS, *RIVALS))


def _trials(epochs: int, seed: int) -> list[Trial]:
    return frontier.trials({budget: networks(budget) for budget in BUDGETS}, SHARES, epochs, seed)


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    by_budget = {f"{budget:,}": networks(budget) for budget in BUDGETS}
    found = frontier.report(by_budget, finished, data)
    return replace(found, markdown=f"{found.markdown}\n\n{_worth(by_budget, finished)}")


def _worth(by_budget: Mapping[str, Sequence[Network]], finished: Sequence[Finished]) -> str:
    """What a SimNet's head and operators bring: each SimNet beside the ConvNet of its shape."""
    rows = []
    for budget, members in by_budget.items():
        runs = {network.name: found for network, found in trained(members, finished).items()}
        for name, found in runs.items():
            if twin := runs.get(_TWINS.get(name, "")):
                lead = f"{accuracy(found) - accuracy(twin):+.2f}"
                rows.append([name, budget, accuracy_text(found), accuracy_text(twin), lead])
    return markdown_table(["SimNet", "budget", "accuracy (%)", "its ReLU twin (%)", "SimNet leads by"], rows)


EXPERIMENT = Experiment(
    "SimNets and the strongest rivals within small budgets, trained to the end", 200, _trials, _report
)
