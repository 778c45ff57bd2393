"""Deep SimNets, figure 2b: single layer networks, accuracy against floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from simroot.data import ImageData
from simroot.trials.experiment import Experiment, Finished, Report, accuracy_text, markdown_table
from simroot.trials.networks import Network, plot_against, setting, trained, trials

_SIMNETS, _CONVNETS = (50, 100, 200, 400, 800), (1600, 3200)
_NORMALISED = "ConvNet, batch normalisation"

# Without normalisation the rate at which the model is registered diverges.
_UNNORMALISED_RATE = 0.02


def _of_size(channels: int) -> list[Network]:
    found = [
        Network("ConvNet", "convnet_coates", {"channels": channels}, learning_rate=_UNNORMALISED_RATE),
        Network(_NORMALISED, "convnet_coates", {"channels": channels, "batch_norm": True}),
    ]
    if channels in _SIMNETS:
        found += [Network(f"SimNet, l{p}", "simnet1", {"channels": channels, "order": float(p)}) for p in (2, 1)]
    return found


NETWORKS = tuple(network for channels in (*_SIMNETS, *_CONVNETS) for network in _of_size(channels))


def _report(finished: Sequence[Finished], data: ImageData) -> Report:
    from matplotlib.figure import Figure

    runs = trained(NETWORKS, finished)
    rows = [
        [
            network.name,
            str(network.overrides["channels"]),
            f"{each[0].row['parameters']:,}",
            f"{each[0].row['flops']:,}",
            accuracy_text(each),
        ]
        for network, each in runs.items()
    ]
    columns = ["network", "channels n", "parameters", "FLOPs", "accuracy (%)"]
    text = (
        f"{markdown_table(columns, rows)}\n\n{setting(finished, data)} The paper plots its accuracies without printing "
        "them: there both SimNets are alike and the ConvNet, which has no batch normalisation, falls behind at the "
        "same FLOPs."
    )
    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    plot_against(figure.subplots(), runs, lambda network: runs[network][0].row["flops"], "FLOPs", {_NORMALISED})
    return Report(text, figure)


EXPERIMENT = Experiment("Deep SimNets, figure 2b: single layer networks", 10, partial(trials, NETWORKS), _report)
