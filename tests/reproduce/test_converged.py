"""Trainings to the end: which networks and recipes, and what the reports say of made-up runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch

from simroot.data import ImageData, from_arrays
from simroot.design import frontier
from simroot.reproduce import experiment, frontier_converged, long_ablation
from simroot.training import RECIPES
from simroot.trials.experiment import Finished, Report
from simroot.trials.networks import Network, registered
from simroot.trials.runs import Trial

WIDE, NARROW = (Network("simnet_residual", "simnet_residual", {"channels": [c, c, c]}) for c in (8, 4))


@pytest.fixture
def data() -> ImageData:
    return from_arrays(torch.zeros(20, 3, 8, 8, dtype=torch.uint8), torch.arange(20) % 2, validation=10)


@pytest.fixture
def two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_ablation, "BUDGETS", (5_000, 65_000))
    monkeypatch.setattr(long_ablation, "network", {5_000: NARROW, 65_000: WIDE}.__getitem__)


def runs(trials: Sequence[Trial], accuracy: Any) -> list[Finished]:
    return [
        Finished(trial, None, {"accuracy": accuracy(trial), "epochs": trial.recipe.epochs, "model": trial.model})
        for trial in trials
    ]


def test_each_part_is_left_out_once(two_sizes: None) -> None:
    trials = experiment("long-ablation").trials(200, 3)
    sizes = {tuple(trial.overrides["channels"]): trial.recipe.epochs for trial in trials}
    assert sizes == {(4, 4, 4): 200, (8, 8, 8): 100}
    whole, *others = [asdict(trial.recipe) for trial in trials[: len(trials) // 2]]
    parts = [{name for name in whole if whole[name] != other[name]} for other in others]
    expected = [set(names) for names in long_ablation.PARTS.values()]
    assert parts == [*expected, set().union(*expected)]
    # what is left of `long` beside its parts holds for all
    differs = {name for name, value in asdict(RECIPES["long"]).items() if whole[name] != value}
    assert differs == {"learning_rate", "clip_norm", "seed"}


def test_its_report_has_a_row_for_each_part(two_sizes: None, data: ImageData) -> None:
    plan = experiment("long-ablation")
    trials = [*plan.trials(200, 0), *plan.trials(200, 1)]
    found = runs(trials[:-1], lambda trial: 0.7 + 0.1 * (trial.recipe.ema > 0) + 0.02 * trial.recipe.seed)
    text = plan.report(found, data).markdown
    assert "| nothing: long | 81.00 ± 1.41 (2 seeds) | 81.00 ± 1.41 (2 seeds) |" in text
    assert "| average of the weights | 71.00 ± 1.41 (2 seeds) | 71.00 ± 1.41 (2 seeds) |" in text
    assert "| all of it | 71.00 ± 1.41 (2 seeds) | 70.00 |" in text
    assert text.count("\n| ") == 8


def test_a_simnet_is_compared_with_its_own_twin(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    members = registered("simnet_residual", "simnet_residual_twin", "resnet20")
    monkeypatch.setattr(frontier_converged, "networks", lambda budget: members if budget == 5_000 else ())
    monkeypatch.setattr(frontier, "report", lambda by_budget, finished, data: Report("| all |"))
    better = {"simnet_residual": 0.8, "simnet_residual_twin": 0.775, "resnet20": 0.9}
    found = runs([network.trial(2, 0) for network in members], lambda trial: better[trial.model])
    text = frontier_converged.EXPERIMENT.report(found, data).markdown
    assert text.startswith("| all |")
    assert text.endswith("| simnet_residual | 5,000 | 80.00 | 77.50 | +2.50 |")


@pytest.mark.slow
def test_our_answer_its_twin_and_the_rivals_are_compared() -> None:
    names = [network.name for network in frontier_converged.networks(5_000)]
    assert {"simnet_residual", "simnet_residual_twin", "simnet_mixed, root 4", "bsconv_wrn_s", "tiniest"} <= set(names)
    assert len(names) == len(set(names))
