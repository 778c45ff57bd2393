"""Deep Roots, table 2 and figures 5 and 6: Network in Network with filter groups, trained."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.data import ImageData, loader
from simroot.errors import ConfigError
from simroot.measure import Candidate, LayerCorrelation, compare, joint_moments, layer_correlation
from simroot.models import create_model, model_entry
from simroot.training import load_run, recipe
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, by_model, draw_runs, markdown_table
from simroot.trials.runs import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The most important first: the network of the paper's claim, then its neighbours, then the other topologies.
_ROOTS = ("nin", "nin_root8", "nin_root4", "nin_root16", "nin_root2")
_ALL = (*_ROOTS, "nin_column4", "nin_tree4", "nin_column8", "nin_tree8", "nin_column2", "nin_tree2")
# Table 2: accuracy in per cent, and milliseconds an image on the paper's processor.
_PRINTED = {
    "nin": (92.11, 39.0),
    "nin_root2": (92.09, 31.2),
    "nin_root4": (92.02, 27.6),
    "nin_root8": (92.15, 24.4),
    "nin_root16": (91.67, 23.0),
}
_ENGINE, _THREADS, _BATCH, _SECONDS = "eager", 1, 64, 4.0
_LAYERS = ("conv2c", "conv3a")
_BLOCKS = 4  # root-8's, where conv3a has no groups


def _trials(models: Sequence[str], epochs: int, seed: int) -> list[Trial]:
    """One recipe for all: one-cycle with the rate and the weight decay that suit the network without groups."""
    return [Trial(model, recipe(epochs=epochs, seed=seed, learning_rate=0.1, weight_decay=5e-4)) for model in models]


def _times(models: Sequence[str], data: ImageData) -> dict[str, float]:
    """Milliseconds an image of each network, all taking turns in one run."""
    size = data.preparation.shape
    networks = [
        Candidate(name, size, create_model(name, len(data.classes), data.channels, image_size=data.image_size))
        for name in models
    ]
    found = compare(networks, (_ENGINE,), threads=(_THREADS,), batches=(_BATCH,), seconds=_SECONDS)
    return {each.model: each.milliseconds_per_image for each in found}


def _table(finished: Sequence[Finished], data: ImageData) -> Report:
    models = by_model(finished)
    times = _times(list(models), data)
    rows = []
    for name, runs in models.items():
        accuracy, milliseconds = _PRINTED.get(name, (None, None))
        rows.append(
            [
                name,
                f"{runs[0].row['parameters']:,}",
                f"{runs[0].row['macs']:,}",
                accuracy_text(runs),
                _printed(accuracy, ".2f"),
                f"{times[name]:.2f}",
                _printed(milliseconds, ".1f"),
            ]
        )
    columns = ["network", "parameters", "MACs", "accuracy (%)", "printed", "ms an image", "printed"]
    text = (
        f"{markdown_table(columns, rows)}\n\nAccuracy on {len(data.val):,} validation images of {data.name} after "
        f"{finished[0].row['epochs']} epochs on {len(data.train):,}. Time on one thread, PyTorch eager, in batches of "
        f"{_BATCH}, all networks taking turns; the printed times are another processor's. Compare within a column."
    )
    return Report(text, _plot(models, times), {"milliseconds": _time_facts(times)})


def _printed(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _time_facts(times: Mapping[str, float]) -> dict[str, Any]:
    return {"engine": _ENGINE, "threads": _THREADS, "batch": _BATCH, "per_image": dict(times)}


def _plot(models: Mapping[str, Sequence[Finished]], times: Mapping[str, float]) -> Figure:
    """Accuracy against parameters, multiply-accumulates and time; a line for each topology, as in figure 5."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), dpi=120, layout="constrained")
    quantities = {
        "parameters (million)": {name: runs[0].row["parameters"] / 1e6 for name, runs in models.items()},
        "MACs (million)": {name: runs[0].row["macs"] / 1e6 for name, runs in models.items()},
        f"milliseconds an image (batch of {_BATCH})": times,
    }
    for axes, (label, values) in zip(figure.subplots(1, 3, sharey=True), quantities.items(), strict=True):
        for topology, marker in (("", "s"), ("root", "o"), ("column", "^"), ("tree", "v")):
            names = [name for name in models if _topology(name) == topology]
            names.sort(key=values.__getitem__)
            accuracies = [[100 * each.row["accuracy"] for each in models[name]] for name in names]
            if names:
                places = list(map(values.__getitem__, names))
                draw_runs(axes, places, accuracies, marker=marker, label=topology or "without groups")
                for name, place, mean in zip(names, places, map(statistics.fmean, accuracies), strict=True):
                    degree = name.removeprefix(f"nin_{topology}") if topology else ""
                    axes.annotate(degree, (place, mean), textcoords="offset points", xytext=(5, 5), fontsize=8)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("validation accuracy (%)")
    figure.axes[0].legend()
    return figure


def _topology(name: str) -> str:
    return name.partition("_")[2].rstrip("0123456789")


def _correlations(finished: Sequence[Finished], data: ImageData) -> Report:
    """Figure 6: a panel for each network, of its first seed."""
    from matplotlib.figure import Figure

    runs: dict[str, Path] = {}
    for each in finished:
        if each.path is not None:  # a row of an earlier report has no weights
            runs.setdefault(each.trial.model, each.path)
    if not runs:
        raise ConfigError("no run of the experiment is here; expected weights whose responses can be correlated")
    figure = Figure(figsize=(6 * len(runs), 5), dpi=120, layout="constrained")
    numbers = {}
    for axes, (name, path) in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs.items(), strict=True):
        found = _correlation(name, path, data)
        numbers[name] = {kind: correlation.block_diagonality for kind, correlation in found.items()}
        found["whitened"].draw(figure, axes, name)
    columns = ["network", *next(iter(numbers.values()))]
    rows = [[name, *(f"{value:.3f}" for value in values.values())] for name, values in numbers.items()]
    text = (
        f"{markdown_table(columns, rows)}\n\nHow block-diagonal the correlation of {_LAYERS[0]} and {_LAYERS[1]} is "
        f"over {len(data.val):,} validation images: 0 if the blocks hold no more squared correlation than anywhere "
        f"else, 1 if they hold all of it. Blocks are {_LAYERS[1]}'s filter groups, and {_BLOCKS} where it has none. "
        "Whitened: the correlation inside each layer is taken out first. Arranged: with both layers' channels in the "
        "best order found, as a network without groups has no reason to keep channels that go together side by side."
    )
    return Report(text, figure, {"layers": list(_LAYERS), "block_diagonality": numbers})


def _correlation(name: str, path: Path, data: ImageData) -> dict[str, LayerCorrelation]:
    run = load_run(path, weights="last")
    batches = loader(data.val, 64, mean=run.mean, std=run.std, train=False)
    moments = joint_moments(run.model, *_LAYERS, (images for images, _ in batches))
    groups = model_entry(name).overrides["groups"][1]
    measure = partial(layer_correlation, run.model, *_LAYERS, moments, groups=_BLOCKS if groups == 1 else groups)
    whitened = measure(whiten=True)
    return {"plain": measure(whiten=False), "whitened": whitened, "whitened, arranged": whitened.arrange()}


TABLE_2 = Experiment(
    "Deep Roots, table 2: Network in Network with filter groups, trained", 8, partial(_trials, _ROOTS), _table
)
FIGURE_5 = Experiment(
    "Deep Roots, figure 5: grouping that falls, stays and rises with depth", 8, partial(_trials, _ALL), _table
)
FIGURE_6 = Experiment(
    "Deep Roots, figure 6: correlation between two layers with filter groups",
    8,
    partial(_trials, _ROOTS),
    _correlations,
)
