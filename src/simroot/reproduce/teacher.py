"""A teacher: the widest of our networks within a million parameters, trained for long, for others to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from simroot.data import ImageData
from simroot.design.budgets import Budget
from simroot.design.families import FAMILIES
from simroot.training import RECIPES, recipe
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, markdown_table
from simroot.trials.networks import Network, plot_epochs, setting, trained
from simroot.trials.runs import Trial

_FAMILY, _PARAMETERS = "simnet_mobile", 1_000_000


@cache
def network() -> Network:
    """The teacher."""
    (family,) = [family for family in FAMILIES if family.name == _FAMILY]
    return family.at(Budget(parameters=_PARAMETERS))


def _trials(epochs: int, seed: int) -> Sequence[Trial]:
    chosen = network()
    rate = chosen.trial(epochs, seed).recipe.learning_rate
    return [Trial(chosen.model, recipe("long", epochs=epochs, seed=seed, learning_rate=rate), chosen.overrides)]


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    runs = trained((network(),), finished)
    rows = [
        [each.name, *(f"{found[0].row[size]:,}" for size in ("parameters", "macs")), accuracy_text(found)]
        for each, found in runs.items()
    ]
    table = markdown_table(["network", "parameters", "MACs", "accuracy (%)"], rows)
    how = "`simroot train --teacher` with its run directory has another network learn from it."
    return Report(f"{table}\n\n{setting(finished, data)} {how}", plot_epochs(runs))


EXPERIMENT = Experiment("A teacher for small networks", RECIPES["long"].epochs, _trials, _report)
