"""The best SimNet against the ConvNets that one would take today, at four numbers of parameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simroot.data import ImageData
from simroot.experiments.budgets import widest
from simroot.experiments.runs import Trial
from simroot.experiments.simnets import Network, Runs, accuracy, plot_against, pretrained, setting, trained
from simroot.experiments.study import Experiment, Finished, Report, accuracy_text, markdown_table
from simroot.measure import Candidate, compare
from simroot.models import create_model, model_entry

# Largest number of parameters -> blocks in each stage of the families that come in several depths.
BUDGETS = {5_000: 1, 20_000: 2, 65_000: 3, 270_000: 3}

# Share of the epochs at the largest budget, whose networks take four times as long.
_SHARES = {270_000: 0.5}

# Filter groups of the root SimNets.
_DEGREE = 4

_ENGINE, _THREADS, _BATCH, _SECONDS = "onnxruntime", 1, 1, 1.0


class Shape(Protocol):
    """Width, from 1 on, and depth -> overrides."""

    def __call__(self, width: int, depth: int) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Family:
    """Networks of one kind in all sizes; ``ours`` are the SimNets, ``pretrained`` ones start from pre-training."""

    name: str
    model: str
    shape: Shape
    ours: bool = False
    pretrained: bool = False

    def at(self, budget: int) -> Network:
        """The widest within a budget."""
        depth = BUDGETS[budget]
        overrides = widest(self.model, budget, lambda width: self.shape(width, depth))
        network = Network(self.name, self.model, _changes(self.model, overrides))
        return pretrained(network) if self.pretrained else network


def _changes(model: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the model's default: a run of the plain model is then one of this network too."""
    defaults = model_entry(model).overrides
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    return {key: value for key, value in overrides.items() if value != plain[key]}


def _two_stages(width: int, depth: int) -> Mapping[str, Any]:
    """n and 2n channels."""
    return {"channels": [(width + 1) // 2, width]}


def _three_grids(width: int, depth: int) -> Mapping[str, Any]:
    """Channels in steps of a quarter: the last grid has four times as many."""
    return {"channels": 1 + (width - 1) / 4}


def _deepening(width: int, depth: int) -> Mapping[str, Any]:
    return {**_three_grids(width, depth), "depth": depth}


def _grouped(width: int, depth: int) -> Mapping[str, Any]:
    """As many channels as filter groups, or more."""
    return {"channels": _DEGREE + (width - 1) / 4, "depth": depth}


def _plain(width: int, depth: int) -> Mapping[str, Any]:
    """Without shortcuts two layers a grid learn faster than three, at 65K parameters, too."""
    return _deepening(width, min(depth, 2))


def _mobile(width: int, depth: int) -> Mapping[str, Any]:
    return {**_grouped(width, depth), "groups": _DEGREE}


def _root(width: int, depth: int) -> Mapping[str, Any]:
    """One layer a grid up to 20K parameters: filter groups leave room for wide ones."""
    return {**_grouped(width, max(1, depth - 1)), "degree": _DEGREE}


FAMILIES = (
    Family("simnet_mixed", "simnet_mixed", _plain, ours=True),
    Family("convnet_plain", "convnet_plain", _plain),
    Family("resnet", "resnet20", _deepening),
    Family("simnet_mixed_twin", "simnet_mixed_twin", _plain),
    Family(f"simnet_mixed, root {_DEGREE}", "simnet_mixed", _root, ours=True),
    Family("simnet_mobile", "simnet_mobile", _mobile, ours=True),
    Family("simnet_pyramid", "simnet_pyramid", _three_grids, ours=True),
    Family("mobilenet_v3_compact", "mobilenet_v3_compact", _deepening),
    Family("simnet_pyramid", "simnet_pyramid", _three_grids, ours=True, pretrained=True),
    Family("mobilenet_v2_compact", "mobilenet_v2_compact", _deepening),
    Family("simnet2", "simnet2", _two_stages, ours=True),
    Family(f"simnet_mixed_twin, root {_DEGREE}", "simnet_mixed_twin", _root),
)
_OURS = {family.model for family in FAMILIES if family.ours}


@functools.cache
def networks(budget: int) -> tuple[Network, ...]:
    """Every family's network within a budget."""
    return tuple(family.at(budget) for family in FAMILIES)


def _trials(epochs: int, seed: int) -> list[Trial]:
    return [network.trial(_epochs(epochs, budget), seed) for budget in BUDGETS for network in networks(budget)]


def _epochs(epochs: int, budget: int) -> int:
    return max(1, round(epochs * _SHARES.get(budget, 1)))


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    from matplotlib.figure import Figure

    by_budget = {budget: trained(networks(budget), finished) for budget in BUDGETS}
    runs: Runs = {network: each for found in by_budget.values() for network, each in found.items()}
    times = _times(list(runs), data)
    rows, best = [], []
    for budget, found in by_budget.items():
        ranked = sorted(found, key=lambda network: -accuracy(found[network]))
        for network in ranked:
            row = found[network][0].row
            sizes = [f"{row['parameters']:,}", f"{row['macs']:,}", f"{times[network]:.3f}"]
            figures = [*sizes, str(row["epochs"]), accuracy_text(found[network])]
            rows.append([network.name, f"{budget:,}", _shape(network), *figures])
        ours = next((network for network in ranked if network.model in _OURS), None)
        theirs = next((network for network in ranked if network.model not in _OURS), None)
        if ours and theirs:
            lead = accuracy(found[ours]) - accuracy(found[theirs])
            best.append([f"{budget:,}", ours.name, theirs.name, f"{lead:+.2f}"])
    columns = ["network", "budget", "shape", "parameters", "MACs", "ms an image", "epochs", "accuracy (%)"]
    text = (
        f"{markdown_table(columns, rows)}\n\n{setting(finished, data)} Every network is the widest of its family "
        f"within the budget of parameters. Time: exported, ONNX Runtime, one thread, one image at a time, all networks "
        f"taking turns.\n\n{markdown_table(['budget', 'best SimNet', 'best ConvNet', 'SimNet leads by'], best)}"
    )
    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    convnets = {family.name for family in FAMILIES if not family.ours}
    plot_against(left, runs, lambda network: runs[network][0].row["macs"], "MACs", convnets)
    plot_against(right, runs, times.__getitem__, "milliseconds an image", convnets)
    return Report(text, figure, {"milliseconds": _time_facts(times)})


def _shape(network: Network) -> str:
    return " ".join(f"{key}={value}" for key, value in network.overrides.items()) or "as registered"


def _times(measured: Sequence[Network], data: ImageData) -> dict[Network, float]:
    """Milliseconds an image of each network; untrained ones take as long as trained ones."""
    size = (data.channels, data.image_size, data.image_size)
    candidates = [
        Candidate(
            f"{network.name} {_shape(network)}",
            size,
            create_model(
                network.model, len(data.classes), data.channels, image_size=data.image_size, **network.overrides
            ),
        )
        for network in measured
    ]
    found = compare(candidates, (_ENGINE,), threads=(_THREADS,), batches=(_BATCH,), seconds=_SECONDS)
    return {network: each.milliseconds_per_image for network, each in zip(measured, found, strict=True)}


def _time_facts(times: Mapping[Network, float]) -> dict[str, Any]:
    per_image = [
        {"model": network.model, "overrides": dict(network.overrides), "milliseconds": time}
        for network, time in times.items()
    ]
    return {"engine": _ENGINE, "threads": _THREADS, "batch": _BATCH, "per_image": per_image}


EXPERIMENT = Experiment("SimNets and today's ConvNets within small budgets", 10, _trials, _report)
