"""Deep Roots' hypothesis against depthwise filters everywhere: residual networks whose filter groups fall with depth.

Deep Roots has few groups where the network ends, as features there depend on many others. Networks of today have a
group for each channel in every layer. These have groups of one, two or four channels in each stage, each as wide as the
parameters allow.
"""

from __future__ import annotations

from simroot.design.budgets import Budget
from simroot.design.families import ANSWERS
from simroot.trials.networks import Network, table_experiment

_PARAMETERS = 20_000

# Channels of a group in each stage: depthwise, falling numbers of groups, the same in all, rising numbers.
WIDTHS = ((1, 1, 1), (1, 1, 2), (1, 2, 4), (2, 2, 2), (4, 2, 1))


def _network(widths: tuple[int, ...]) -> Network:
    choices = {f"group_{stage}": width for stage, width in enumerate(widths, start=1)}
    found = ANSWERS[0].chosen({"depth": 2, **choices}, Budget(parameters=_PARAMETERS))
    return Network(f"groups of {', '.join(map(str, widths))}", found.model, found.overrides)


EXPERIMENT = table_experiment(
    "Filter groups that fall with depth, and others", 30, tuple(map(_network, WIDTHS)), lambda data: {}
)
