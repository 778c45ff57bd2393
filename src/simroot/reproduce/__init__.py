"""The papers' tables and figures, each a small module.

Tables of sizes are computed at once. What needs trained networks is loaded by ``experiment``, as training takes
libraries that counting does without.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from simroot.errors import ConfigError
from simroot.reproduce import deep_roots_table_2, deep_roots_table_4, deep_roots_table_5, deep_roots_table_6
from simroot.reproduce.tables import SizeRow, SizeTable

if TYPE_CHECKING:
    from simroot.trials.experiment import Experiment

# Name -> what computes it.
TABLES: dict[str, Callable[[], SizeTable]] = {
    "deep-roots-table-2": deep_roots_table_2.table,
    "deep-roots-table-4": deep_roots_table_4.table,
    "deep-roots-table-5": deep_roots_table_5.table,
    "deep-roots-table-6": deep_roots_table_6.table,
}

# Name -> the Experiment, and what it trains and shows.
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "deep-roots-table-2": ("deep_roots_nin:TABLE_2", "Train NiN and its root variants: accuracy and time."),
    "deep-roots-figure-5": ("deep_roots_nin:FIGURE_5", "Train NiN's root, column and tree variants and plot them."),
    "deep-roots-figure-6": ("deep_roots_nin:FIGURE_6", "Train NiN's root variants and correlate two of their layers."),
    "simnets-figure-2b": ("simnets_figure_2b:EXPERIMENT", "Train single layer networks: accuracy against FLOPs."),
    "simnets-table-1": ("simnets_table_1:EXPERIMENT", "Train the two layer SimNet, Caffe's ConvNet and the ReLU twin."),
    "simnets-table-2": ("simnets_table_2:EXPERIMENT", "Train the three layer SimNet."),
    "simnets-compact": ("simnets_compact:EXPERIMENT", "Train the three layer SimNet and NiN with 5K parameters."),
    "simnets-pretraining": ("simnets_pretraining:EXPERIMENT", "Train SimNets from random and from pre-trained starts."),
    "compact-frontier": ("compact_frontier:EXPERIMENT", "Train SimNets and today's ConvNets within small budgets."),
    "frontier-converged": (
        "frontier_converged:EXPERIMENT",
        "Train our best networks and the strongest rivals for long.",
    ),
    "long-ablation": ("long_ablation:EXPERIMENT", "Train without each part of the recipe long, at three sizes."),
    "teacher": ("teacher:EXPERIMENT", "Train a large network of ours for long, for small ones to learn from."),
    "distilled": ("distilled:EXPERIMENT", "Train small networks with a teacher and without."),
    "falling-groups": (
        "falling_groups:EXPERIMENT",
        "Train residual networks whose filter groups fall with depth, and others.",
    ),
    "learning-rates": ("learning_rates:EXPERIMENT", "Choose the rates of the above within the training images."),
}


def experiment(name: str) -> Experiment:
    """What trains and reports a table or figure.

    Raises:
        ConfigError: for an unknown name.
    """
    if name not in EXPERIMENTS:
        raise ConfigError(f"unknown experiment {name!r}; known are {', '.join(EXPERIMENTS)}")
    found: Experiment = pkgutil.resolve_name(f"{__name__}.{EXPERIMENTS[name][0]}")
    return found


__all__ = ["EXPERIMENTS", "TABLES", "SizeRow", "SizeTable", "experiment"]
