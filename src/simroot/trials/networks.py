"""What the experiments with SimNets have in common: networks, their rates, tables and plots."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from simroot.data import ImageData
from simroot.models import model_entry
from simroot.training import recipe
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, draw_runs, markdown_table
from simroot.trials.runs import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Network's name -> learning rate, where `simroot reproduce learning-rates` found, or once had found, a better one than
# the usual.
RATES = {"nin_compact": 0.4, "nin_compact, no normalisation": 0.025, "simnet3_compact": 0.4, "ConvNet": 0.04}

_PRETRAINED = ", pre-trained"

# Fields for every network in an experiment, beside its own recipe.
RECIPE = {"weight_decay": 5e-4}


@dataclass(frozen=True, eq=False)
class Network:
    """One network of an experiment.

    Attributes:
        name: what tables and plots call it; networks of one name differ in size and share a learning rate.
        model: name in the registry.
        overrides: arguments of its builder, as plain values that JSON knows.
        pretrained: start from pre-training; in tables and plots the name says so, and the rate is the name's without.
        learning_rate: what ``RATES`` starts from, where it is not the rate that the model is registered with.
    """

    name: str
    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    learning_rate: float | None = None

    @property
    def usual_rate(self) -> float:
        """The learning rate that holds unless a better one has been found."""
        return self.learning_rate or recipe(**model_entry(self.model).recipe).learning_rate

    def trial(self, epochs: int, seed: int, **changes: Any) -> Trial:
        """Its training: the model's own recipe with ``RECIPE`` and the network's rate, and further changes."""
        rate = RATES.get(self.name.removesuffix(_PRETRAINED), self.usual_rate)
        fields = {**model_entry(self.model).recipe, **RECIPE, "learning_rate": rate, "epochs": epochs, "seed": seed}
        return Trial(self.model, recipe(**{**fields, **changes}), self.overrides, pretrained=self.pretrained)

    def runs(self, finished: Sequence[Finished]) -> list[Finished]:
        """Those of the finished runs that trained it."""
        mine = (self.model, dict(self.overrides), self.pretrained)
        trials = [(each, each.trial) for each in finished]
        return [each for each, trial in trials if (trial.model, dict(trial.overrides), trial.pretrained) == mine]


def pretrained(network: Network) -> Network:
    """The same network from a pre-trained start."""
    return replace(network, name=network.name + _PRETRAINED, pretrained=True)


def registered(*models: str) -> tuple[Network, ...]:
    """Networks as they are registered."""
    return tuple(Network(model, model) for model in models)


def trials(networks: Sequence[Network], epochs: int, seed: int) -> list[Trial]:
    """A training of each network, in their order."""
    return [network.trial(epochs, seed) for network in networks]


RunsByNetwork = Mapping[Network, Sequence[Finished]]


def trained(networks: Sequence[Network], finished: Sequence[Finished]) -> dict[Network, list[Finished]]:
    """The runs of each network that has some, all seeds together."""
    found = {network: network.runs(finished) for network in networks}
    return {network: runs for network, runs in found.items() if runs}


def accuracy(runs: Sequence[Finished]) -> float:
    """Mean accuracy over the seeds, in per cent."""
    return statistics.fmean(100 * each.row["accuracy"] for each in runs)


def setting(finished: Sequence[Finished], data: ImageData) -> str:
    """What the accuracies are measured on."""
    numbers = sorted({each.row["epochs"] for each in finished})
    epochs = "1 epoch" if numbers == [1] else f"{' or '.join(map(str, numbers))} epochs"
    return (
        f"Accuracy on {len(data.val):,} validation images of {data.name} after {epochs} on {len(data.train):,}: "
        "the last epoch's; shifts and mirroring as each run's recipe says."
    )


Printed = Callable[[ImageData], Mapping[str, float]]


def on_cifar10(printed: Mapping[str, float]) -> Printed:
    """Accuracies that the paper has for CIFAR-10, which say nothing about other images."""
    return lambda data: printed if data.name.startswith("cifar10") and len(data.classes) == 10 else {}


def table_experiment(title: str, epochs: int, networks: Sequence[Network], printed: Printed) -> Experiment:
    """Networks in a table beside the paper's accuracies, and a plot of the accuracy by epoch.

    Args:
        title: what it is.
        epochs: of every training.
        networks: the rows; the first is what the others are compared with.
        printed: data -> name -> the paper's accuracy in per cent; names that are no network's are rows too.
    """
    return Experiment(title, epochs, partial(trials, networks), partial(_table_report, networks, printed))


def _table_report(
    networks: Sequence[Network], printed: Printed, finished: Sequence[Finished], data: ImageData
) -> Report:
    runs, paper = trained(networks, finished), printed(data)
    first, best = next((network.name, accuracy(each)) for network, each in runs.items())
    rows = []
    for network, each in runs.items():
        sizes = [f"{each[0].row[size]:,}" for size in ("parameters", "macs", "flops")]
        lead = "" if network.name == first else f"{best - accuracy(each):+.2f}"
        rows.append([network.name, *sizes, accuracy_text(each), lead, _number(paper.get(network.name))])
    others = [name for name in paper if name not in {network.name for network in networks}]
    rows += [[name, *["-"] * 5, _number(paper[name])] for name in others]
    columns = ["network", "parameters", "MACs", "FLOPs", "accuracy (%)", f"{first} leads by", "paper (%)"]
    note = " The paper's are test accuracies after 300."
    if not paper:
        columns, rows, note = columns[:-1], [row[:-1] for row in rows], ""
    return Report(f"{markdown_table(columns, rows)}\n\n{setting(finished, data)}{note}", plot_epochs(runs))


def plot_epochs(runs: RunsByNetwork) -> Figure:
    """Validation accuracy by epoch, the mean of the seeds, a line for each network."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for network, each in runs.items():
        curves = zip(*(run.row["validation_accuracy_by_epoch"] for run in each), strict=True)
        means = [100 * statistics.fmean(values) for values in curves]
        axes.plot(range(1, len(means) + 1), means, marker="o", markersize=3, label=network.name)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _finish(axes)
    return figure


def plot_against(
    axes: Axes, runs: RunsByNetwork, cost: Callable[[Network], float], label: str, dashed: Container[str]
) -> None:
    """Validation accuracy against a cost on a logarithmic scale, a line for each name; whiskers are deviations.

    Args:
        axes: draws here.
        runs: of each network.
        cost: of a network.
        label: what it is, and its unit.
        dashed: names whose lines are dashed.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for name in dict.fromkeys(network.name for network in runs):
        members = sorted((network for network in runs if network.name == name), key=cost)
        values = [[100 * each.row["accuracy"] for each in runs[network]] for network in members]
        style = "--" if name in dashed else "-"
        draw_runs(axes, list(map(cost, members)), values, marker="o", markersize=4, linestyle=style, label=name)
    axes.set_xscale("log")
    # 1, 2, 5, 10 and so on: powers of ten alone are too few, and all multiples of them run into one another.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1e6:g}M" if value >= 1e5 else f"{value:g}")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_ylabel("validation accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
