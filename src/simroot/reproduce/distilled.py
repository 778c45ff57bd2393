"""What a teacher brings: our answer and the strongest rival, each by itself and taught by our next larger network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from simroot.data import ImageData
from simroot.design.budgets import Budget
from simroot.design.families import ANSWERS, RIVALS
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, markdown_table
from simroot.trials.networks import Network, accuracy, plot_epochs, setting
from simroot.trials.runs import Trial

# Parameters -> weights that come with simroot, of some four times as many.
TEACHERS: Mapping[int, str] = {5_000: "simnet_20k_cifar10", 20_000: "simnet_65k_cifar10"}

# Networks of 5,000 parameters learned faster with few shifts, in trainings of 40 epochs.
_TAUGHT = {"shift": 2}


@cache
def networks(budget: int) -> tuple[Network, ...]:
    """Our answer and the strongest rival within a budget."""
    return tuple(family.at(Budget(parameters=budget)) for family in (ANSWERS[0], RIVALS[0]))


def _pair(network: Network, teacher: str, epochs: int, seed: int) -> tuple[Trial, Trial]:
    """A network's training with a teacher, and that by itself, as in frontier-converged."""
    return replace(network.trial(epochs, seed, **_TAUGHT), teacher=teacher), network.trial(epochs, seed)


def _trials(epochs: int, seed: int) -> list[Trial]:
    return [
        trial
        for budget, teacher in TEACHERS.items()
        for network in networks(budget)
        for trial in _pair(network, teacher, epochs, seed)
    ]


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    rows, curves = [], {}
    for budget, teacher in TEACHERS.items():
        for network in networks(budget):
            runs = network.runs(finished)
            taught, alone = ([each for each in runs if each.trial.teacher == name] for name in (teacher, None))
            if not taught:
                continue
            cells = (accuracy_text(taught), "-", "-")
            curves[replace(network, name=f"{network.name}, {budget:,}, taught")] = taught
            if alone:
                cells = (cells[0], accuracy_text(alone), f"{accuracy(taught) - accuracy(alone):+.2f}")
                curves[replace(network, name=f"{network.name}, {budget:,}")] = alone
            rows.append([network.name, f"{budget:,}", teacher, *cells])
    columns = ["network", "budget", "teacher", "taught (%)", "by itself (%)", "the teacher brings"]
    text = f"{markdown_table(columns, rows)}\n\n{setting(finished, data)} No teacher has seen the validation images."
    return Report(text, plot_epochs(curves))


EXPERIMENT = Experiment("What a teacher brings", 200, _trials, _report)
