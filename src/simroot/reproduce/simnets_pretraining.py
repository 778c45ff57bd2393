"""Deep SimNets, section 5: SimNets pre-trained without labels against random ones, with many labels and with few."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from simroot.data import ImageData
from simroot.trials.experiment import Experiment, Finished, Report, markdown_table
from simroot.trials.networks import Network, pretrained
from simroot.trials.runs import PRETRAINED, Row, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANDOM = "random"

NETWORKS = (
    Network("simnet2", "simnet2"),
    Network("simnet1, p = 2", "simnet1", {"channels": 100}, learning_rate=0.1),
    Network("simnet1, p = 1", "simnet1", {"channels": 100, "order": 1.0}, learning_rate=0.1),
    Network("simnet3_compact", "simnet3_compact"),
)
# Labelled images to train on; None for all. Pre-training sees all images, whatever this number.
LABELS = (1000, 5000, None)


def comparison(networks: Sequence[Network], labels: Sequence[int | None]) -> Experiment:
    """Every network from both starts with each number of labels: the same recipe, and the same images in one order."""
    title = "Pre-trained against random SimNets (Deep SimNets, section 5)"
    return Experiment(title, 10, partial(_trials, networks, labels), partial(_report, networks))


def _trials(networks: Sequence[Network], labels: Sequence[int | None], epochs: int, seed: int) -> list[Trial]:
    return [
        replace(start.trial(epochs, seed, learning_rate=start.usual_rate, weight_decay=1e-4), labels=count)
        for network in networks
        for count in labels
        for start in (network, pretrained(network))
    ]


def _report(networks: Sequence[Network], finished: Sequence[Finished], data: ImageData) -> Report:
    rows = [
        _figures(network.name, each.row, len(data.train))
        for network in networks
        for start in (network, pretrained(network))
        for each in start.runs(finished)
    ]
    found, epochs = summary(rows), list(rows[0]["accuracies"])
    reading = (
        f"Validation accuracy in per cent on {len(data.val):,} images of {data.name}, after {', '.join(epochs)} epochs "
        f"of one training of {epochs[-1]}. Pre-training saw all {len(data.train):,} training images without labels, "
        "and the classification offsets start from the labels of those that are trained on."
    )
    return Report(f"{reading}\n\n{_table(found, rows, epochs)}", _plot(rows), {"summary": found})


def _figures(network: str, row: Row, images: int) -> Row:
    """What is shown of a run: accuracies after the first epoch, half of them and all."""
    curve, last = row["validation_accuracy_by_epoch"], row["epochs"]
    return {
        "network": network,
        "labels": row.get("labels", images),
        "start": row.get("start", RANDOM),
        "seed": row["seed"],
        "accuracies": {str(epoch): curve[epoch - 1] for epoch in sorted({1, (last + 1) // 2, last})},
        "curve": curve,
        "pretraining_seconds": row.get("pretraining_seconds"),
    }


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean accuracies over the seeds that both starts have, and what pre-training gains, in points of per cent."""
    found = []
    cases = dict.fromkeys((row["network"], row["labels"]) for row in rows)
    for network, labels in cases:
        starts = {
            kind: {row["seed"]: row["accuracies"] for row in rows if _case(row) == (network, labels, kind)}
            for kind in (RANDOM, PRETRAINED)
        }
        seeds = sorted(starts[RANDOM].keys() & starts[PRETRAINED].keys())
        if not seeds:
            continue
        means = {
            kind: {epoch: statistics.fmean(found[seed][epoch] for seed in seeds) for epoch in found[seeds[0]]}
            for kind, found in starts.items()
        }
        gain = {epoch: 100 * (means[PRETRAINED][epoch] - value) for epoch, value in means[RANDOM].items()}
        found.append({"network": network, "labels": labels, "seeds": seeds, **means, "gain": gain})
    return found


def _case(found: Row) -> tuple[str, int, str]:
    return found["network"], found["labels"], found["start"]


def _table(found: Sequence[Row], rows: Sequence[Row], epochs: Sequence[str]) -> str:
    """The summary, accuracies in per cent; of pre-training the mean time of each network."""
    lines = []
    for each in found:
        took = [row["pretraining_seconds"] for row in rows if row["network"] == each["network"]]
        seconds = [value for value in took if value is not None]
        times = {RANDOM: "", PRETRAINED: f"{statistics.fmean(seconds):.0f} s" if seconds else "-"}
        for kind in (RANDOM, PRETRAINED):
            case = [each["network"], f"{each['labels']:,}", str(len(each["seeds"])), kind]
            lines.append([*case, *(f"{100 * each[kind][epoch]:.2f}" for epoch in epochs), times[kind]])
    return markdown_table(
        ["network", "labels", "seeds", "start", *(f"epoch {each}" for each in epochs), "pre-training"], lines
    )


def _plot(rows: Sequence[Row]) -> Figure:
    """Validation accuracy by epoch: a panel for each network and number of labels, a line for each training."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row["network"] for row in rows))
    labels = sorted({row["labels"] for row in rows})
    figure = Figure(figsize=(4 * len(labels), 2.8 * len(networks)), dpi=100, layout="constrained")
    panels = figure.subplots(len(networks), len(labels), squeeze=False)
    for line, network in enumerate(networks):
        for axes, count in zip(panels[line], labels, strict=True):
            for kind, colour in ((RANDOM, "tab:grey"), (PRETRAINED, "tab:blue")):
                curves = [row["curve"] for row in rows if _case(row) == (network, count, kind)]
                for number, curve in enumerate(curves):
                    label = kind if number == 0 else None
                    values = [100 * value for value in curve]
                    axes.plot(range(1, len(curve) + 1), values, color=colour, marker="o", markersize=3, label=label)
            axes.set_title(f"{network}, {count:,} labels")
            axes.grid(alpha=0.3)
        panels[line][0].set_ylabel("validation accuracy (%)")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    panels[0][0].legend()
    return figure


EXPERIMENT = comparison(NETWORKS, LABELS)
