"""What a teacher brings: which trainings, and what the report says of made-up ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from simroot.data import from_arrays
from simroot.models import list_pretrained, model_entry
from simroot.reproduce import distilled, experiment, frontier_converged
from simroot.trials.experiment import Finished
from simroot.trials.networks import registered

NETWORKS = registered("simnet_residual", "bsconv_wrn_s")


def test_each_network_with_a_larger_teacher_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilled, "networks", lambda budget: NETWORKS)
    trials = experiment("distilled").trials(7, 3)
    assert len(trials) == 2 * len(NETWORKS) * len(distilled.TEACHERS)
    for taught, alone in zip(trials[::2], trials[1::2], strict=True):
        assert (alone.teacher, taught.teacher in list_pretrained()) == (None, True)
        assert replace(taught, teacher=None, recipe=replace(taught.recipe, shift=None)) == alone
        assert (taught.recipe.epochs, taught.recipe.seed) == (7, 3)
    for budget, teacher in distilled.TEACHERS.items():
        assert (model_entry(teacher).parameters or 0) > budget


def test_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilled, "networks", lambda budget: NETWORKS)
    monkeypatch.setattr(distilled, "TEACHERS", {5_000: "simnet_20k_cifar10"})
    data = from_arrays(torch.zeros(20, 3, 8, 8, dtype=torch.uint8), torch.arange(20) % 2, validation=10)
    plan = experiment("distilled")

    def row(accuracy: float) -> dict[str, object]:
        return {"accuracy": accuracy, "epochs": 2, "validation_accuracy_by_epoch": [0.5, accuracy]}

    taught, alone, rival, _ = plan.trials(2, 0)
    finished = [Finished(trial, None, row(found)) for trial, found in ((taught, 0.8), (alone, 0.78), (rival, 0.77))]
    text = plan.report(finished, data).markdown
    assert "| simnet_residual | 5,000 | simnet_20k_cifar10 | 80.00 | 78.00 | +2.00 |" in text
    assert "| bsconv_wrn_s | 5,000 | simnet_20k_cifar10 | 77.00 | - | - |" in text


@pytest.mark.slow
def test_alone_they_are_those_of_the_frontier() -> None:
    for budget in distilled.TEACHERS:
        shapes = [(each.model, each.overrides) for each in frontier_converged.networks(budget)]
        assert all((each.model, each.overrides) in shapes for each in distilled.networks(budget))
