"""Deep SimNets, section 5: SimNets pre-trained without labels against random ones, with many labels and with few."""

from __future__ import annotations

import json
import logging
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_model
from safetensors.torch import save as serialise

from simroot.data import ImageData, load, loader
from simroot.files import write_atomic, write_text
from simroot.models import create_model, model_entry
from simroot.pretraining import classify, pretrain, read_start
from simroot.training import recipe
from simroot.training.environment import versions
from simroot.training.run import origin
from simroot.trials.experiment import markdown_table
from simroot.trials.runs import Row, Runs, Trial, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

RANDOM, PRETRAINED = "random", "pre-trained"
# Accuracies are reported after these epochs of one training of the last number of epochs.
EPOCHS = (1, 5, 10)
# Labelled images to train on; None for all. Pre-training sees all images, whatever this number.
LABELS = (1000, 5000, None)


@dataclass(frozen=True)
class Network:
    """A network of the comparison: what people call it, its name in the registry, and overrides."""

    name: str
    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


NETWORKS = (
    Network("simnet2", "simnet2"),
    Network("simnet1, p = 2", "simnet1", {"channels": 100}),
    Network("simnet1, p = 1", "simnet1", {"channels": 100, "order": 1.0}),
    Network("simnet3_compact", "simnet3_compact"),
)


def conduct(
    source: Mapping[str, Any],
    *,
    runs: Path,
    out: Path,
    networks: Sequence[Network] = NETWORKS,
    labels: Sequence[int | None] = LABELS,
    seeds: Sequence[int] = (0, 1),
    epochs: Sequence[int] = EPOCHS,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train every network from both starts and write what comes out after each of them; goes on where it stopped.

    Both starts have the network's own recipe, with as many epochs as the last of ``epochs``, and the same images in
    the same order. Filters, templates and statistics are pre-trained on all images without labels; the classification
    offsets come from the labelled images that the training has.

    Args:
        source: arguments of ``simroot.data.load`` that give all images.
        runs: folder of run directories and pre-trained networks.
        out: JSON file; a plot is written beside it.
        networks: to compare.
        labels: numbers of labelled images to train on, None for all.
        seeds: of pre-training and training.
        epochs: after which accuracies are reported, the last one also the length of a training.
        options: of ``simroot.pretraining.pretrain``.

    Returns:
        What the JSON file holds.
    """
    options = options or {}
    full = load(**source)
    data = {count: full if count is None else load(**{**source, "limit": count}) for count in labels}
    rows: list[Row] = []
    for seed in seeds:
        for network in networks:
            slug = _slug({**network.overrides, **options})
            start = runs / "pre-trained" / f"{network.model}-{slug}-seed-{seed}"
            _pretrain(start, network, full, source, seed, options)
            for count in labels:
                folder = Runs(runs, data[count], {**source, "limit": count})
                for kind in (RANDOM, PRETRAINED):
                    weights = _with_offsets(start, network, data[count]) if kind == PRETRAINED else None
                    path = folder.complete(_trial(network, max(epochs), seed, weights), progress=False)
                    facts = {"network": network.name, "start": kind, "labels": len(data[count].train)}
                    again = _command(network, data[count], count, seed, epochs, options)
                    rows.append(_row({**facts, **row(path), "command": again}, start, epochs))
                    log.info("%s", _line(rows[-1]))
                    result = _result(full, rows, epochs, options)
                    _write(out, result)
    return result


def _trial(network: Network, epochs: int, seed: int, weights: Path | None) -> Trial:
    how = recipe("default", **{**model_entry(network.model).recipe, "epochs": epochs, "seed": seed})
    return Trial(network.model, how, network.overrides, weights)


def _slug(options: Mapping[str, Any]) -> str:
    return "-".join(f"{key}-{value}" for key, value in options.items()) or "default"


def _pretrain(
    path: Path,
    network: Network,
    data: ImageData,
    source: Mapping[str, Any],
    seed: int,
    options: Mapping[str, Any],
) -> None:
    if path.exists():
        return
    facts = origin(data, source)
    _, report = pretrain(data, network.model, network.overrides, path, seed=seed, facts=facts, **options)
    log.info("%s pre-trained in %.0f s", network.name, report.seconds)


def _with_offsets(start: Path, network: Network, data: ImageData) -> Path:
    """The pre-trained weights with classification offsets from the labels of the training images."""
    path = start.with_name(f"{start.name}-{len(data.train)}-labels.safetensors")
    if not path.exists():
        overrides = {"image_size": data.image_size, **network.overrides}
        model = create_model(network.model, len(data.classes), data.channels, **overrides)
        load_model(model, read_start(start).weights)
        classify(model, loader(data.train, 256, mean=data.mean, std=data.std, train=False), "labels")
        write_atomic(path, lambda file: file.write(serialise(model.state_dict())))
    return path


def _row(found: Row, start: Path, epochs: Sequence[int]) -> Row:
    curve = found["validation_accuracy_by_epoch"]
    report = json.loads((start / "report.json").read_text(encoding="utf-8"))
    return {
        **found,
        "accuracies": {str(epoch): curve[epoch - 1] for epoch in epochs},
        "pretraining_seconds": report["seconds"] if found["start"] == PRETRAINED else 0.0,
    }


def _command(
    network: Network, data: ImageData, count: int | None, seed: int, epochs: Sequence[int], options: Mapping[str, Any]
) -> str:
    given = {"data": data.name, "networks": network.model, "labels": count or 0, "seeds": seed}
    words = [word for key, value in {**given, **options}.items() for word in (f"--{key}", value)]
    return shlex.join(map(str, ["python", "benchmarks/pretraining.py", *words, "--epochs", *epochs]))


def _line(found: Row) -> str:
    accuracies = ", ".join(f"{value:.2%} after {epoch}" for epoch, value in found["accuracies"].items())
    return f"{found['network']}, {found['labels']} labels, {found['start']}, seed {found['seed']}: {accuracies}"


def _result(data: ImageData, rows: Sequence[Row], epochs: Sequence[int], options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": "Pre-trained against random SimNets (Deep SimNets, section 5)",
        "data": {"name": data.name, "train": len(data.train), "validation": len(data.val)},
        "reading": f"Accuracies on the validation images after {', '.join(map(str, epochs))} epochs of one training of "
        f"{max(epochs)} epochs; pre-training saw all {len(data.train):,} training images without labels, and the "
        "classification offsets start from the labels of those that are trained on.",
        "pretraining": dict(options),
        "versions": versions(),
        "rows": list(rows),
        "summary": summary(rows),
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


def _write(out: Path, result: Mapping[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(result, indent=1) + "\n")
    if result["summary"]:
        write_text(out.with_suffix(".md"), f"# {result['title']}\n\n{table(result)}\n")
        figure = plot(result["rows"])
        write_atomic(out.with_suffix(".png"), lambda file: figure.savefig(file, format="png"))


def table(result: Mapping[str, Any]) -> str:
    """The summary in Markdown, accuracies in per cent."""
    seconds: dict[str, list[float]] = {}
    for each in result["rows"]:
        if each["start"] == PRETRAINED:
            seconds.setdefault(each["network"], []).append(each["pretraining_seconds"])
    lines = []
    for each in result["summary"]:
        network, labels, seeds = each["network"], f"{each['labels']:,}", str(len(each["seeds"]))
        for kind in (RANDOM, PRETRAINED):
            took = "" if kind == RANDOM else f"{statistics.fmean(seconds[network]):.0f} s"
            lines.append([network, labels, seeds, kind, *(f"{100 * a:.2f}" for a in each[kind].values()), took])
    columns = ["network", "labels", "seeds", "start", *(f"epoch {e}" for e in result["summary"][0][RANDOM])]
    data = result["data"]
    return (
        f"Validation accuracy in per cent on {data['validation']:,} images of {data['name']}. {result['reading']}\n\n"
        f"{markdown_table([*columns, 'pre-training'], lines)}"
    )


def plot(rows: Sequence[Row]) -> Figure:
    """Validation accuracy by epoch: a panel for each network and number of labels, a line for each training."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row["network"] for row in rows))
    labels = sorted({row["labels"] for row in rows})
    figure = Figure(figsize=(4 * len(labels), 2.8 * len(networks)), dpi=100, layout="constrained")
    panels = figure.subplots(len(networks), len(labels), squeeze=False)
    for line, network in enumerate(networks):
        for column, count in enumerate(labels):
            axes = panels[line][column]
            for kind, colour in ((RANDOM, "tab:grey"), (PRETRAINED, "tab:blue")):
                of_kind = [row for row in rows if _case(row) == (network, count, kind)]
                for number, each in enumerate(of_kind):
                    curve = [100 * value for value in each["validation_accuracy_by_epoch"]]
                    label = kind if number == 0 else None
                    axes.plot(range(1, len(curve) + 1), curve, color=colour, marker="o", markersize=3, label=label)
            axes.set_title(f"{network}, {count:,} labels")
            axes.grid(alpha=0.3)
            if line == len(networks) - 1:
                axes.set_xlabel("epoch")
            if column == 0:
                axes.set_ylabel("validation accuracy (%)")
    panels[0][0].legend()
    return figure
