"""Trained networks within budgets: ranked, the best SimNet beside the best ConvNet, against operations and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simroot.data import ImageData
from simroot.design.families import ALL
from simroot.design.tasks import deployed, task_of
from simroot.design.times import ENGINE, THREADS
from simroot.measure import Candidate, compare
from simroot.trials.experiment import Finished, Report, accuracy_text, markdown_table
from simroot.trials.networks import Network, RunsByNetwork, accuracy, plot_against, setting, trained
from simroot.trials.runs import Trial

# How long each network is measured, all taking turns.
_SECONDS = 1.0

_OURS = {family.model for family in ALL if family.ours}


def trials(
    by_budget: Mapping[int, Sequence[Network]], shares: Mapping[int, float], epochs: int, seed: int
) -> list[Trial]:
    """A training of each network, for a budget's share of the epochs (all of them if it has none)."""
    return [
        network.trial(max(1, round(epochs * shares.get(budget, 1))), seed)
        for budget, networks in by_budget.items()
        for network in networks
    ]


def report(by_budget: Mapping[str, Sequence[Network]], finished: Sequence[Finished], data: ImageData) -> Report:
    """Tables and plots.

    Args:
        by_budget: what a budget is called -> the widest network of each family within it.
        finished: their runs.
        data: what they were trained on.
    """
    from matplotlib.figure import Figure

    found = {budget: trained(networks, finished) for budget, networks in by_budget.items()}
    runs: RunsByNetwork = {network: each for within in found.values() for network, each in within.items()}
    times = _times(list(runs), data)
    rows, best = [], []
    for budget, within in found.items():
        ranked = sorted(within, key=lambda network: -accuracy(within[network]))
        for network in ranked:
            row = within[network][0].row
            sizes = [f"{row['parameters']:,}", f"{row['macs']:,}", f"{times[network]:.3f}"]
            figures = [*sizes, str(row["epochs"]), accuracy_text(within[network])]
            rows.append([network.name, budget, shape(network), *figures])
        ours = next((network for network in ranked if network.model in _OURS), None)
        theirs = next((network for network in ranked if network.model not in _OURS), None)
        if ours and theirs:
            lead = accuracy(within[ours]) - accuracy(within[theirs])
            best.append([budget, ours.name, theirs.name, f"{lead:+.2f}"])
    columns = ["network", "budget", "shape", "parameters", "MACs", "ms an image", "epochs", "accuracy (%)"]
    text = (
        f"{markdown_table(columns, rows)}\n\n{setting(finished, data)} Every network is the widest of its family "
        f"within the budget. Time: exported, ONNX Runtime, one thread, one image at a time, all networks taking turns."
        f"\n\n{markdown_table(['budget', 'best SimNet', 'best ConvNet', 'SimNet leads by'], best)}"
    )
    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    convnets = {family.name for family in ALL if not family.ours}
    plot_against(left, runs, lambda network: runs[network][0].row["macs"], "MACs", convnets)
    plot_against(right, runs, times.__getitem__, "milliseconds an image", convnets)
    return Report(text, figure, {"milliseconds": _time_facts(times)})


def shape(network: Network) -> str:
    """Its overrides as people read them."""
    return " ".join(f"{key}={value}" for key, value in network.overrides.items()) or "as registered"


def _times(measured: Sequence[Network], data: ImageData) -> dict[Network, float]:
    """Milliseconds an image of each network; untrained ones take as long as trained ones."""
    task = task_of(data)
    candidates = [
        Candidate(f"{each.name} {shape(each)}", task.input_size, deployed(each.model, each.overrides, task))
        for each in measured
    ]
    found = compare(candidates, (ENGINE,), threads=(THREADS,), seconds=_SECONDS)
    return {network: each.milliseconds_per_image for network, each in zip(measured, found, strict=True)}


def _time_facts(times: Mapping[Network, float]) -> dict[str, Any]:
    per_image = [
        {"model": network.model, "overrides": dict(network.overrides), "milliseconds": time}
        for network, time in times.items()
    ]
    return {"engine": ENGINE, "threads": THREADS, "batch": 1, "per_image": per_image}
