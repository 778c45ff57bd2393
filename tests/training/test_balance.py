"""Classes of unlike size in a training: the loss, the best epoch, the figures of a confusion matrix."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from torch.nn import functional

from simroot.data import ImageData, from_arrays
from simroot.errors import CheckpointError
from simroot.export.evaluation import Evaluation
from simroot.training import Recipe, train
from simroot.training.callbacks import best_row, stalled
from simroot.training.checkpoint_file import restored
from simroot.training.module import ClassificationModule
from training.support import CLASSES, small_data


def uneven() -> ImageData:
    data = small_data(90)
    images = data.train.read(torch.arange(len(data.train)))
    keep = torch.cat(
        [(data.train.labels == label).nonzero().flatten()[:count] for label, count in enumerate((20, 6, 4))]
    )
    val = data.val.read(torch.arange(len(data.val)))
    return from_arrays(images[keep], data.train.labels[keep], CLASSES, val_images=val, val_labels=data.val.labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_loss(smoothing: float) -> None:
    """The mean over images, each with the weight of its class; of mixed labels by their shares."""
    module = ClassificationModule(nn.Identity(), uneven(), Recipe(balance="loss", label_smoothing=smoothing))
    torch.manual_seed(0)
    scores, labels = torch.randn(8, 3), torch.arange(8) % 3
    weights = torch.tensor([30 / (3 * count) for count in (20, 6, 4)])
    targets = functional.one_hot(labels, 3) * (1 - smoothing) + smoothing / 3
    expected = -(scores.log_softmax(1) * targets * weights).sum(1).mean()
    torch.testing.assert_close(module._loss(scores, labels), expected)
    torch.testing.assert_close(module._loss(scores, functional.one_hot(labels, 3).float()), expected)
    plain = ClassificationModule(nn.Identity(), uneven(), Recipe(label_smoothing=smoothing))
    assert plain._loss(scores, labels) == functional.cross_entropy(scores, labels, label_smoothing=smoothing)
    assert not [name for name in module.state_dict() if "weights" in name]  # checkpoints are as before


def test_figures_are_scikit_learns() -> None:
    """Of a confusion matrix with a class that is never taken, and one without images."""
    confusion = np.array([[5, 2, 0, 1], [1, 3, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0]])
    found = Evaluation.counted(("a", "b", "c", "d"), confusion, 16, 1.0)
    truth, taken = (np.repeat(index, confusion.flatten()) for index in np.indices((4, 4)).reshape(2, -1))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, taken, labels=[0, 1, 2], zero_division=0)
    np.testing.assert_allclose(np.nan_to_num([*found.precision.values()][:3]), precision)
    np.testing.assert_allclose([*found.recall.values()][:3], recall)
    np.testing.assert_allclose([*found.f1.values()][:3], f1)
    assert found.balanced_accuracy == pytest.approx(np.mean(recall))
    assert found.macro_f1 == pytest.approx(np.mean(f1))
    assert all(math.isnan(values["d"]) for values in (found.recall, found.f1))
    assert found.by_class()["c"] == {"images": 4, "precision": None, "recall": 0.0, "f1": 0.0}
    assert found.by_class()["d"] == {"images": 0, "precision": 0.0, "recall": None, "f1": None}


ROWS = [
    {"val_accuracy": 0.5, "val_loss": 1.0, "val_f1": 0.2},
    {"val_accuracy": 0.6, "val_loss": 1.2, "val_f1": 0.4},
    {"val_accuracy": 0.6, "val_loss": 0.9, "val_f1": 0.3},
    {"val_accuracy": 0.4, "val_loss": 0.9, "val_f1": 0.1},
]


def test_the_best_epoch_by_each_metric() -> None:
    assert best_row(ROWS) is ROWS[1]
    assert best_row(ROWS, "loss") is ROWS[2]
    assert best_row(ROWS, "f1") is ROWS[1]


@pytest.mark.parametrize(("metric", "patience", "expected"), [("f1", 1, True), ("f1", 2, False), ("loss", 2, False)])
def test_a_training_stalls_by_its_metric(metric: str, patience: int, expected: bool) -> None:
    recipe = Recipe.from_dict({"metric": metric, "patience": patience})
    assert stalled(ROWS, recipe) is expected


@pytest.mark.parametrize("balance", ["loss", "sampler"])
def test_a_training_of_unlike_classes(tmp_path: Path, balance: str, caplog: pytest.LogCaptureFixture) -> None:
    recipe = Recipe.from_dict({"epochs": 2, "batch_size": 10, "balance": balance, "metric": "balanced_accuracy"})
    with caplog.at_level("INFO", "simroot"):
        run = train("tiny", uneven(), recipe, tmp_path / "run", accelerator="cpu", progress=False)
    assert f"ant has 20 training images, cat 4; recipe field balance is {balance}" in caplog.text
    assert "balanced accuracy" in caplog.text
    head, *rows = (run.path / "metrics.csv").read_text().splitlines()
    assert head.endswith("seconds,val_balanced_accuracy")
    found = [float(row.split(",")[-1]) for row in rows]
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["best_epoch"] == 1 + found.index(max(found))
    assert summary["balanced_accuracy"] == pytest.approx(max(found), rel=1e-6)
    assert summary["per_class"]["cat"].keys() == {"images", "precision", "recall", "f1"}


def test_epochs_without_the_metric_are_refused() -> None:
    """As of a config.yaml that somebody has changed."""
    checkpoint = {"history": [{"epoch": 1, "val_accuracy": 1.0}], "state_dict": {}, "global_step": 1}
    with pytest.raises(CheckpointError, match="the checkpoint's epochs have no f1"):
        restored(checkpoint, nn.Identity(), Recipe(metric="f1"), {})
