"""The SimNet experiments: plans that can be trained, budgets, tables and plots from given rows, a run in small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from simroot.data import ImageData, from_arrays
from simroot.design import frontier
from simroot.design.budgets import Budget
from simroot.design.families import FAMILIES
from simroot.design.tasks import deployed, parameters
from simroot.errors import ConfigError, TrainingError
from simroot.models import create_model, model_entry
from simroot.reproduce import (
    compact_frontier,
    experiment,
    learning_rates,
    simnets_compact,
    simnets_figure_2b,
    simnets_table_1,
)
from simroot.reproduce.compact_frontier import BUDGETS
from simroot.training import recipe
from simroot.trials import networks as simnets
from simroot.trials.experiment import Experiment, Finished, Report, conduct
from simroot.trials.networks import Network, setting
from simroot.trials.runs import Runs, Trial

PLANS = ["simnets-figure-2b", "simnets-table-1", "simnets-table-2", "simnets-compact"]
SLOW_PLANS = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("compact-frontier", "falling-groups", "learning-rates")
]


def small_data(count: int = 60, classes: int = 10) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=generator).byte()
    return from_arrays(images, torch.arange(count) % classes, classes=[str(c) for c in range(classes)], validation=20)


def row(network: Network, accuracy: float, seed: int = 0, **figures: Any) -> dict[str, Any]:
    curve = [accuracy / 2, accuracy]
    sizes = {"parameters": 4_902, "macs": 1_606_400, "flops": 3_500_000}
    return {
        "model": network.model,
        "overrides": dict(network.overrides),
        "seed": seed,
        "epochs": 2,
        "accuracy": accuracy,
        "best_accuracy": accuracy,
        "seconds": 1.0,
        "recipe": {},
        **sizes,
        "validation_accuracy_by_epoch": curve,
        **figures,
    }


def from_json(text: str) -> list[Finished]:
    """Finished runs from the rows of a results file."""
    rows = json.loads(text)["rows"]
    trials = [
        Trial(
            row["model"],
            recipe(**row.get("recipe", {}), seed=row["seed"]),
            row["overrides"],
            pretrained=row.get("start") == "pre-trained",
        )
        for row in rows
    ]
    return [Finished(trial, Path(), row) for trial, row in zip(trials, rows, strict=True)]


def finished(*rows: dict[str, Any]) -> list[Finished]:
    return from_json(json.dumps({"rows": rows}))


def table(report: Report) -> list[list[str]]:
    """The cells of the first table, without its header."""
    lines = report.markdown.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("name", [*PLANS, *SLOW_PLANS])
def test_every_trial_can_be_trained(name: str) -> None:
    trials = experiment(name).trials(3, 7)
    assert len({(t.name, t.recipe.learning_rate) for t in trials}) == len(trials)
    for trial in trials:
        assert trial.recipe.seed == 7
        assert trial.recipe.epochs == 3 or name == "compact-frontier"  # whose epochs have a test of their own
        assert dict(trial.overrides) == json.loads(json.dumps(dict(trial.overrides)))
        with torch.device("meta"):
            create_model(trial.model, 10, 3, image_size=32, **trial.overrides)


def test_trials_have_the_networks_recipe_and_the_rate_found_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("simnet2", "simnet2")
    usual = network.trial(5, 1).recipe
    assert usual == recipe(**{**model_entry("simnet2").recipe, **simnets.RECIPE, "epochs": 5, "seed": 1})
    monkeypatch.setitem(simnets.RATES, "simnet2", 0.07)
    assert network.trial(5, 1).recipe == replace(usual, learning_rate=0.07)
    assert network.trial(5, 1, learning_rate=0.4).recipe == replace(usual, learning_rate=0.4)
    again = simnets.pretrained(network)
    assert again.name == "simnet2, pre-trained"
    assert again.trial(5, 1) == replace(network.trial(5, 1), pretrained=True)


def test_figure_2b_has_the_papers_sizes() -> None:
    sizes: dict[str, list[int]] = {}
    for network in simnets_figure_2b.NETWORKS:
        sizes.setdefault(network.name, []).append(network.overrides["channels"])
    simnet, convnet = [50, 100, 200, 400, 800], [50, 100, 200, 400, 800, 1600, 3200]
    assert sizes == {
        "ConvNet": convnet,
        "ConvNet, batch normalisation": convnet,
        "SimNet, l2": simnet,
        "SimNet, l1": simnet,
    }


@pytest.mark.parametrize("budget", [5_000, *(pytest.param(b, marks=pytest.mark.slow) for b in BUDGETS[1:])])
def test_frontiers_networks_fill_their_budget(budget: int) -> None:
    for network in compact_frontier.networks(budget):
        least = 0.85 if budget == 5_000 else 0.9
        assert least * budget < parameters(deployed(network.model, network.overrides)) <= budget, network.name


@pytest.mark.slow
def test_registered_networks_are_recognised_on_the_frontier() -> None:
    """Another experiment's run of the plain model serves this one, too."""
    by_name = {family.name: family for family in FAMILIES}
    assert by_name["simnet2"].at(Budget(parameters=65_000)).overrides == {}
    assert by_name["simnet2"].at(Budget(parameters=5_000)).overrides == {"channels": [8, 16]}
    (root,) = (network for network in simnets_table_1.NETWORKS if network.name in by_name and "root" in network.name)
    assert by_name[root.name].at(Budget(parameters=65_000)).overrides == root.overrides


def test_table_compares_with_the_first_and_has_the_papers_column() -> None:
    first, bn, pretrained, *_, caffe = simnets_table_1.NETWORKS
    runs = finished(
        row(caffe, 0.7),
        row(first, 0.74, seed=0),
        row(first, 0.78, seed=1),
        row(bn, 0.775),
        row(pretrained, 0.79, start="pre-trained"),
    )
    report = simnets_table_1.EXPERIMENT.report(runs, cifar10())
    size = ["4,902", "1,606,400", "3,500,000"]
    assert table(report) == [
        ["simnet2", *size, "76.00 ± 2.83 (2 seeds)", "", "85.5"],
        ["convnet_caffe_bn", *size, "77.50", "-1.50", "-"],
        ["simnet2, pre-trained", *size, "79.00", "-3.00", "-"],
        ["convnet_caffe", *size, "70.00", "+6.00", "81.1"],
    ]
    assert "Accuracy on 20 validation images of cifar10-train-images.tar.gz after 2 epochs on 40" in report.markdown
    assert report.figure is not None
    lines = report.figure.axes[0].lines
    labels = ["simnet2", "convnet_caffe_bn", "simnet2, pre-trained", "convnet_caffe"]
    assert [line.get_label() for line in lines] == labels
    assert list(lines[0].get_ydata()) == pytest.approx([38, 76])  # type: ignore[arg-type]


def cifar10() -> ImageData:
    return replace(small_data(), name="cifar10-train-images.tar.gz")


@pytest.mark.parametrize(("name", "printed"), [("cifar10.zip", "85.5"), ("cifar100", "54.6"), ("svhn", "93.8")])
def test_papers_column_is_that_of_the_data(name: str, printed: str) -> None:
    runs = finished(row(simnets_table_1.NETWORKS[0], 0.5))
    report = simnets_table_1.EXPERIMENT.report
    assert table(report(runs, replace(small_data(), name=name)))[0][-1] == printed
    assert "paper" not in report(runs, replace(small_data(), name="photos")).markdown


def test_published_networks_are_rows_too() -> None:
    simnet3 = Network("simnet3", "simnet3")
    rows = table(experiment("simnets-table-2").report(finished(row(simnet3, 0.9)), cifar10()))
    assert rows[0][-1] == "92.18"
    assert rows[1:] == [
        [name, *["-"] * 5, accuracy]
        for name, accuracy in (
            ("Network in Network", "91.19"),
            ("Deeply Supervised Nets", "92.03"),
            ("Highway Network", "92.4"),
            ("ALL-CNN", "92.75"),
        )
    ]


def test_compact_nin_without_normalisation_is_the_papers() -> None:
    runs = finished(*(row(network, 0.6) for network in simnets_compact.NETWORKS))
    printed = {cells[0]: cells[-1] for cells in table(simnets_compact.EXPERIMENT.report(runs, cifar10()))}
    assert printed["nin_compact, no normalisation"] == "72.3"
    assert printed["nin_compact"] == "-"


def test_figure_2b_is_a_line_for_each_kind_by_flops() -> None:
    by_size = {(n.name, n.overrides["channels"]): n for n in simnets_figure_2b.NETWORKS}
    runs = finished(
        row(by_size["SimNet, l2", 100], 0.6, flops=2_000),
        row(by_size["SimNet, l2", 50], 0.5, flops=1_000),
        row(by_size["ConvNet", 50], 0.4, flops=500),
    )
    report = simnets_figure_2b.EXPERIMENT.report(runs, small_data())
    assert [cells[:2] for cells in table(report)] == [["ConvNet", "50"], ["SimNet, l2", "50"], ["SimNet, l2", "100"]]
    assert report.figure is not None
    drawn = {line.get_label(): line for line in report.figure.axes[0].lines}
    assert np.asarray(drawn["SimNet, l2"].get_xdata()).tolist() == [1_000, 2_000]
    assert np.asarray(drawn["SimNet, l2"].get_ydata()).tolist() == [50, 60]


def test_frontier_ranks_within_budgets_and_says_who_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(candidates: Sequence[Any], *args: Any, **options: Any) -> list[Any]:
        return [SimpleNamespace(milliseconds_per_image=0.25 * (1 + i)) for i, _ in enumerate(candidates)]

    monkeypatch.setattr(frontier, "compare", compare)
    monkeypatch.setattr(compact_frontier, "BUDGETS", (5_000,))
    simnet, plain, resnet, twin, *_ = compact_frontier.networks(5_000)
    runs = finished(row(plain, 0.6), row(simnet, 0.7), row(twin, 0.72), row(resnet, 0.5))
    report = compact_frontier.EXPERIMENT.report(runs, small_data())
    cells = table(report)
    assert [each[0] for each in cells] == ["simnet_mixed_twin", "simnet_mixed", "convnet_plain", "resnet"]
    assert [each[-3:] for each in cells] == [
        ["1.000", "2", "72.00"],
        ["0.250", "2", "70.00"],
        ["0.500", "2", "60.00"],
        ["0.750", "2", "50.00"],
    ]
    assert report.markdown.endswith("| 5,000 | simnet_mixed | simnet_mixed_twin | -2.00 |")
    facts = report.facts["milliseconds"]
    assert facts["per_image"][0] == {
        "model": "simnet_mixed",
        "overrides": dict(simnet.overrides),
        "milliseconds": 0.25,
    }
    assert report.figure is not None
    assert [axes.get_xlabel() for axes in report.figure.axes] == ["MACs", "milliseconds an image"]


@pytest.mark.slow
def test_frontier_trains_its_largest_networks_for_half_the_epochs() -> None:
    number = len(FAMILIES)
    epochs = [trial.recipe.epochs for trial in compact_frontier.EXPERIMENT.trials(10, 0)]
    assert epochs == [10] * number * 3 + [5] * number
    assert {trial.recipe.epochs for trial in compact_frontier.EXPERIMENT.trials(1, 0)} == {1}
    half = setting(
        finished(row(Network("a", "simnet2"), 0.5), row(Network("a", "simnet2"), 0.5, epochs=1)), small_data()
    )
    assert "after 1 or 2 epochs on 40:" in half


def test_rates_are_judged_on_a_part_of_the_training_images() -> None:
    data = small_data(100)
    part = learning_rates.part(data)
    assert (len(part.train), len(part.val)) == (23, 10)  # of 80, an eighth; of the others, a third
    images = torch.cat([part.train.read(torch.arange(23)), part.val.read(torch.arange(10))])
    found = {image.numpy().tobytes() for image in images}
    assert len(found) == 33
    assert found < {image.numpy().tobytes() for image in data.train.read(torch.arange(80))}
    assert part.val.labels.bincount().tolist() == [1] * 10


def test_best_rate_of_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = Network("one", "simnet2"), Network("two", "nin_compact"), Network("three", "simnet3_compact")
    monkeypatch.setattr(learning_rates, "networks", lambda: (one, two, three))
    accuracies = {(one, 0.1): 0.504, (one, 0.2): 0.5, (two, 0.4): 0.4, (three, 0.1): 0.512, (three, 0.2): 0.5}
    runs = finished(
        *(row(network, accuracy, recipe={"learning_rate": rate}) for (network, rate), accuracy in accuracies.items())
    )
    report = learning_rates.EXPERIMENT.report(runs, small_data())
    assert table(report) == [
        ["one", "0.2", "50.40", "50.00", "-", "0.2"],  # too little ahead to mean anything
        ["two", "0.2", "-", "-", "40.00", "0.4"],
        ["three", "0.2", "51.20", "50.00", "-", "0.1"],
    ]
    assert report.facts == {"best": {"one": 0.2, "two": 0.4, "three": 0.1}}


def test_a_training_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("one", "simnet2")
    good = finished(row(network, 0.5))[0]

    def complete(self: Runs, trial: Trial, **options: Any) -> Path:
        if trial.recipe.learning_rate == 0.4:
            raise TrainingError("the loss is not finite")
        return tmp_path

    monkeypatch.setattr(Runs, "complete", complete)
    monkeypatch.setattr("simroot.trials.experiment.row", lambda path: {**good.row, "command": "simroot train"})
    seen: list[Finished] = []

    def report(runs: Sequence[Finished], data: ImageData) -> Report:
        seen.extend(runs)
        return Report("| a |")

    plan = Experiment("two", 1, lambda e, s: [network.trial(e, s, learning_rate=rate) for rate in (0.4, 0.1)], report)
    conduct("two", plan, small_data(), runs=tmp_path, results=tmp_path)
    assert [each.trial.recipe.learning_rate for each in seen] == [0.1]


def test_quick_runs_are_of_both_kinds_even_if_the_first_of_one_cannot_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def complete(self: Runs, trial: Trial, **options: Any) -> Path:
        asked.append(trial.model)
        if trial.model == "simnet2":
            raise ConfigError("the images are too small")
        return tmp_path

    monkeypatch.setattr(Runs, "complete", complete)
    monkeypatch.setattr("simroot.trials.experiment.row", lambda path: row(Network("one", asked[-1]), 0.5))
    models = ("simnet2", "convnet_caffe", "simnet2_twin", "nin", "simnet_mixed", "simnet3")
    plan = Experiment(
        "kinds", 1, lambda e, s: [Network(m, m).trial(e, s) for m in models], lambda runs, data: Report("| a |")
    )
    conduct("kinds", plan, small_data(100), runs=tmp_path, results=tmp_path, quick=True)
    assert asked == ["simnet2", "convnet_caffe", "simnet2_twin", "simnet_mixed"]
    assert "simnet2, seed 0 is left out: the images are too small" in caplog.text


def test_runs_on_a_part_of_the_data_are_made_again_by_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network("one", "simnet2")
    seen: list[tuple[int, Any]] = []

    def complete(self: Runs, trial: Trial, **options: Any) -> Path:
        seen.append((len(self.data.train), self.source))
        return tmp_path

    monkeypatch.setattr(Runs, "complete", complete)
    monkeypatch.setattr("simroot.trials.experiment.row", lambda path: {**row(network, 0.5), "command": "simroot train"})
    plan = Experiment(
        "part", 1, lambda e, s: [network.trial(e, s)], lambda runs, data: Report("| a |"), learning_rates.part
    )
    source = {"name_or_path": "cifar10"}
    path = conduct("part", plan, small_data(100), runs=tmp_path, results=tmp_path, source=source)
    assert seen == [(23, None)]
    content = json.loads(path.read_text())
    assert content["split"] == {"training": 23, "validation": 10, "classes": 10}
    assert content["rows"][0]["command"] == "simroot reproduce part --data cifar10"
    path = conduct("part", plan, small_data(100), runs=tmp_path, results=tmp_path, source=source, epochs=3)
    assert json.loads(path.read_text())["rows"][0]["command"] == "simroot reproduce part --data cifar10 --epochs 3"


@pytest.mark.slow
def test_frontier_in_small_and_again_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_frontier, "BUDGETS", (5_000,))
    monkeypatch.setattr(frontier, "_SECONDS", 0.1)
    places: dict[str, Any] = {
        "runs": tmp_path / "runs",
        "results": tmp_path / "results",
        "quick": True,
        "progress": False,
    }
    path = conduct("compact-frontier", experiment("compact-frontier"), small_data(), **places)
    content = json.loads(path.read_text())
    assert [each["model"] for each in content["rows"]] == ["simnet_mixed", "convnet_plain"]
    assert all(each["milliseconds"] > 0 for each in content["milliseconds"]["per_image"])
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert "| convnet_plain | 5,000 |" in path.with_suffix(".md").read_text()
    monkeypatch.setattr("simroot.training.train", None)
    assert conduct("compact-frontier", experiment("compact-frontier"), small_data(), train=False, **places) == path
    assert json.loads(path.read_text())["rows"] == content["rows"]


@pytest.mark.slow
def test_frontier_has_root_simnets_of_one_layer_a_grid_up_to_20k_parameters() -> None:
    roots = [compact_frontier.networks(budget)[4].overrides for budget in compact_frontier.BUDGETS]
    assert [(root["degree"], root.get("depth", "as registered")) for root in roots] == [
        (4, 1),
        (4, 1),
        (4, "as registered"),
        (4, "as registered"),
    ]
