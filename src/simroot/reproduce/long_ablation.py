"""What each part of the recipe ``long`` brings: trainings with all of it, without one part each, and without any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from simroot.data import ImageData
from simroot.design.budgets import Budget
from simroot.design.families import ANSWERS
from simroot.reproduce.frontier_converged import SHARES
from simroot.training import RECIPES
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, markdown_table
from simroot.trials.networks import Network, setting
from simroot.trials.runs import Trial

BUDGETS = (5_000, 20_000, 65_000)

# What a part is called -> its fields.
PARTS: Mapping[str, tuple[str, ...]] = {
    "average of the weights": ("ema",),
    "mixup": ("mixup", "ramp"),
    "erased squares": ("erase",),
    "smooth labels": ("label_smoothing",),
    "last epochs without the last three": ("settle",),
}
_NOTHING, _ALL = "nothing: long", "all of it"


@cache
def network(budget: int) -> Network:
    """Our answer's network within a budget."""
    return ANSWERS[0].at(Budget(parameters=budget))


def _left_out() -> dict[str, tuple[str, ...]]:
    return {_NOTHING: (), **PARTS, _ALL: tuple(name for names in PARTS.values() for name in names)}


def _trial(budget: int, left_out: Sequence[str], epochs: int, seed: int) -> Trial:
    fields = [name for names in PARTS.values() for name in names if name not in left_out]
    changes: dict[str, Any] = {name: getattr(RECIPES["long"], name) for name in fields}
    return network(budget).trial(epochs, seed, **changes)


def _trials(epochs: int, seed: int) -> list[Trial]:
    shares = {budget: max(1, round(epochs * SHARES.get(budget, 1))) for budget in BUDGETS}
    return [_trial(budget, names, shares[budget], seed) for budget in BUDGETS for names in _left_out().values()]


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    rows = []
    for part, names in _left_out().items():
        runs = [_runs(finished, budget, names) for budget in BUDGETS]
        if any(runs):
            rows.append([part, *(accuracy_text(each) if each else "-" for each in runs)])
    sizes = [f"{budget:,} parameters" for budget in BUDGETS]
    table = markdown_table(["left out", *sizes], rows)
    return Report(f"{table}\n\n{setting(finished, data)} The network is {network(BUDGETS[0]).name} of each size.")


def _runs(finished: Sequence[Finished], budget: int, left_out: Sequence[str]) -> list[Finished]:
    def is_one(trial: Trial) -> bool:
        return trial == _trial(budget, left_out, trial.recipe.epochs, trial.recipe.seed)

    return [each for each in finished if is_one(each.trial)]


EXPERIMENT = Experiment("What each part of the recipe long brings", RECIPES["long"].epochs, _trials, _report)
