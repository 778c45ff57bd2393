"""Which learning rate trains each network best, on a validation part of the training images.

What it finds is kept in ``simroot.trials.networks.RATES``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from simroot.data import ImageData
from simroot.data.splits import stratified
from simroot.reproduce import compact_frontier, simnets_compact, simnets_figure_2b, simnets_table_1
from simroot.trials.experiment import Experiment, Finished, Report, markdown_table
from simroot.trials.networks import Network, accuracy, setting, trained
from simroot.trials.runs import Trial

# Times a network's usual rate.
FACTORS = (0.5, 1.0, 2.0)

# Points of accuracy by which a rate must beat the usual one to take its place: less is chance, since the difference of
# two accuracies on 5,000 images has a standard error of almost one.
_MARGIN = 1.0

# The rates are judged on one in eight of the training images, the validation images stay unseen; to compare them, one
# in three of the others is enough to train on. Far fewer steps would ask for higher rates.
_JUDGED, _TRAINED = 8, 3


def networks() -> tuple[Network, ...]:
    """One network of each name in the experiments that compare networks; of the frontier's the second smallest."""
    found = (
        *compact_frontier.networks(20_000),
        *simnets_table_1.NETWORKS,
        *simnets_compact.NETWORKS,
        *(network for network in simnets_figure_2b.NETWORKS if network.overrides["channels"] == 100),
    )
    by_name: dict[str, Network] = {}
    for network in found:
        if not network.pretrained:  # these have the rate of the random start
            by_name.setdefault(network.name, network)
    return tuple(by_name.values())


def part(data: ImageData) -> ImageData:
    """A third of seven eighths of the training images to train on, and the last eighth as validation images."""
    judged, others = stratified(data.train.labels, len(data.train) // _JUDGED, seed=0)
    rest = data.train.subset(others)
    trained = stratified(rest.labels, len(rest) // _TRAINED, seed=0)[0]
    return replace(data, train=rest.subset(trained), val=data.train.subset(judged))


def _trials(epochs: int, seed: int) -> list[Trial]:
    return [network.trial(epochs, seed, learning_rate=rate) for network in networks() for rate in _rates(network)]


def _rates(network: Network) -> list[float]:
    """The rates that are tried, in rising order."""
    return [factor * network.usual_rate for factor in FACTORS]


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    rows, best = [], {}
    for network, runs in trained(networks(), finished).items():
        rates = _rates(network)
        by_rate = {
            rate: accuracy(found)
            for rate in rates
            if (found := [each for each in runs if each.trial.recipe.learning_rate == rate])
        }
        best[network.name] = _best(by_rate, usual=rates[1])
        cells = [f"{by_rate[rate]:.2f}" if rate in by_rate else "-" for rate in rates]
        rows.append([network.name, f"{rates[1]:g}", *cells, f"{best[network.name]:g}"])
    columns = ["network", "usual rate", "half of it", "itself", "twice", "best rate"]
    text = (
        f"{markdown_table(columns, rows)}\n\n{setting(finished, data)} All are part of the training images. A rate "
        "without an accuracy is one with which the training failed or was not run. The best rate is the usual one "
        f"unless another is at least {_MARGIN:g} ahead."
    )
    return Report(text, facts={"best": best})


def _best(by_rate: Mapping[float, float], usual: float) -> float:
    best = max(by_rate, key=by_rate.__getitem__)
    return best if by_rate[best] >= by_rate.get(usual, -math.inf) + _MARGIN else usual


EXPERIMENT = Experiment("Learning rates, chosen within the training images", 10, _trials, _report, part)
