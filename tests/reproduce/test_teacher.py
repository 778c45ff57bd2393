"""The experiment that trains a teacher."""

from __future__ import annotations

import pytest
import torch

from simroot.data import from_arrays
from simroot.measure import count
from simroot.models import create_model, deploy
from simroot.reproduce import experiment
from simroot.reproduce.teacher import network
from simroot.training import RECIPES
from simroot.trials.experiment import Finished


@pytest.mark.slow
def test_one_network_of_ours_for_long() -> None:
    (trial,) = experiment("teacher").trials(200, 3)
    assert trial.model.startswith("simnet")
    assert (trial.recipe.epochs, trial.recipe.seed, trial.recipe.ema) == (200, 3, RECIPES["long"].ema)
    model = deploy(create_model(trial.model, 10, 3, **trial.overrides))
    assert 900_000 < count(model, (3, 32, 32)).parameters <= 1_000_000


@pytest.mark.slow
def test_its_report() -> None:
    plan = experiment("teacher")
    data = from_arrays(torch.zeros(20, 3, 8, 8, dtype=torch.uint8), torch.arange(20) % 2, validation=10)
    (trial,) = plan.trials(2, 0)
    row = {
        "parameters": 999_000,
        "macs": 1_000,
        "accuracy": 0.9,
        "epochs": 2,
        "validation_accuracy_by_epoch": [0.5, 0.9],
    }
    text = plan.report([Finished(trial, None, row)], data).markdown
    assert f"| {network().name} | 999,000 | 1,000 | 90.00 |" in text
    assert "simroot train --teacher" in text
