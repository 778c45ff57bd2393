"""Images with any number of classes in a training: loss, figures, thresholds, what a run says, what is refused."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from simroot.data import ImageData, from_arrays, normalise
from simroot.errors import ConfigError, DataError
from simroot.export.multi_label import MultiLabelEvaluation, average_precisions, best_thresholds
from simroot.export.task import AnyClasses
from simroot.layers import MexDense
from simroot.training import Recipe, Run, chosen_images, evaluate, load_run, resume, train
from simroot.training.card import card
from simroot.training.evaluation import scored
from simroot.training.module import ClassificationModule
from simroot.training.prior import start_at_shares
from training.support import CLASSES, QUICK, small_data
from training.test_card import exported


def several_data(count: int = 70, seed: int = 1) -> ImageData:
    """Every class adds its pattern to the images that have it."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, 3, generator=generator) < torch.tensor([0.5, 0.3, 0.2])).byte()
    patterns = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(9)) / 4
    images = (
        torch.einsum("nk,kchw->nchw", labels.float(), patterns) + torch.rand(count, 3, 8, 8, generator=generator) / 4
    )
    return from_arrays((255 * images).byte(), labels, CLASSES, validation=22, multi_label=True, name="several")


@pytest.fixture(scope="module")
def several() -> ImageData:
    return several_data()


def trained(data: ImageData, out: Path, **changes: object) -> Run:
    recipe = replace(QUICK, **changes)  # type: ignore[arg-type]
    return train("tiny", data, recipe, out, accelerator="cpu", progress=False)


@pytest.mark.parametrize("balance", ["none", "loss"])
def test_the_loss_by_its_definition(several: ImageData, balance: str) -> None:
    """For every image and class apart; of smooth and mixed labels by their shares."""
    recipe = Recipe.from_dict({"label_smoothing": 0.1, "balance": balance})
    goal = ClassificationModule(nn.Identity(), several, recipe).objective
    torch.manual_seed(0)
    scores, labels = torch.randn(5, 3), several.train.labels[:5]
    counts, images = several.train.labels.sum(0).tolist(), len(several.train)

    def slow(targets: torch.Tensor, smoothing: float, weights: list[float]) -> float:
        total = 0.0
        for row in range(5):
            for column in range(3):
                y = float(targets[row, column]) * (1 - smoothing) + smoothing / 2
                p = 1 / (1 + math.exp(-float(scores[row, column])))
                total -= weights[column] * y * math.log(p) + (1 - y) * math.log(1 - p)
        return total

    weights = [(images - count) / count if balance == "loss" else 1.0 for count in counts]
    assert float(goal.loss(scores, labels)) == pytest.approx(slow(labels, 0.1, weights) / 5, rel=1e-5)
    mixed = torch.rand(5, 3)
    assert float(goal.loss(scores, mixed)) == pytest.approx(slow(mixed, 0.1, weights) / 5, rel=1e-5)
    assert float(goal.total(scores, labels)) == pytest.approx(slow(labels, 0.0, [1.0] * 3), rel=1e-5)
    start = torch.zeros(1, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(goal.factor * goal.total(start, labels[:1]), start)
    assert float(slope.norm()) == pytest.approx(1)
    assert goal.hard(torch.tensor([[0.5, 0.4]])).tolist() == [[True, False]]


def test_figures_are_scikit_learns() -> None:
    """With ties, a class without images, and one that is never taken."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(200, 4)).round(1)
    labels = (generator.random((200, 4)) < [0.4, 0.2, 0.1, 0]).astype(np.uint8)
    scores[:, 0] += 2 * labels[:, 0]
    found = average_precisions(scores, labels)
    expected = [metrics.average_precision_score(labels[:, k], scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(found[:3], expected)
    assert math.isnan(found[3])
    of = MultiLabelEvaluation.of("abcd", (0.5, 0.5, 1.0, 0.5), scores, labels)
    assert of.mean_average_precision == pytest.approx(np.mean(expected))
    present = (1 / (1 + np.exp(-scores)) >= 0.5).astype(int)
    for k, name in enumerate("ab"):
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            labels[:, k], present[:, k], average="binary"
        )
        own = of.by_class()[name]
        assert (own["precision"], own["recall"], own["f1"]) == pytest.approx((precision, recall, f1))
    nothing = {"images": 0, "average_precision": None, "recall": None, "f1": None, "threshold": 0.5}
    assert of.by_class()["c"]["precision"] is None
    assert of.by_class()["c"]["f1"] == 0
    assert of.by_class()["d"] == {**nothing, "precision": 0.0}
    assert of.macro_f1 == pytest.approx(np.mean([own["f1"] for own in of.by_class().values() if own["images"]]))
    with pytest.raises(DataError, match="there is no image to evaluate on"):
        MultiLabelEvaluation.of("ab", (0.5, 0.5), scores[:0, :2], labels[:0, :2])


def test_thresholds_give_the_largest_f1() -> None:
    """By trying every one that makes a difference; they lie between two images, so that rounding changes nothing."""
    generator = np.random.default_rng(1)
    for _ in range(5):
        scores = generator.normal(size=(25, 2)).astype(np.float32)
        labels = np.stack((generator.random(25) < 0.3, np.zeros(25)), 1).astype(np.uint8)
        labels[0, 0] = 1
        first, second = best_thresholds(scores, labels)
        shares = 1 / (1 + np.exp(-scores[:, 0].astype(float)))
        tried = [metrics.f1_score(labels[:, 0], shares >= share) for share in shares]
        assert metrics.f1_score(labels[:, 0], shares >= first) == pytest.approx(max(tried))
        assert np.abs(shares - first).min() > 1e-9
        assert second == 0.5


def test_what_is_said_of_an_image() -> None:
    task = AnyClasses((0.5, 0.2, 0.9))
    shares = np.array([0.4, 0.3, 0.95])
    assert task.said(shares, None) == [2, 1]
    assert task.said(shares, 1) == [2]
    assert task.said(np.zeros(3), None) == []
    assert task.agreement(np.array([[0.0, 0, 0]]), np.array([[-1.0, 0, 0]])) == pytest.approx(2 / 3)
    np.testing.assert_allclose(task.probabilities(np.array([[0, -800.0, 800]])), [[0.5, 0, 1]])


def test_a_training_and_what_it_leaves(several: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "simroot"):
        run = trained(several, tmp_path / "run", epochs=8, mixup=0.2, ramp=1.0)
    summary = json.loads((run.path / "summary.json").read_text())
    head, *rows = (run.path / "metrics.csv").read_text().splitlines()
    figure = "mean_average_precision"
    assert head == f"epoch,train_loss,train_{figure},val_loss,val_{figure},learning_rate,seconds"
    by_epoch = [float(row.split(",")[4]) for row in rows]
    assert summary[figure] == pytest.approx(max(by_epoch), rel=1e-6)
    assert summary["best_epoch"] == 1 + by_epoch.index(max(by_epoch))
    assert summary[figure] > 0.6  # chance is a third
    assert summary[f"last_{figure}"] == pytest.approx(by_epoch[-1], rel=1e-6)
    assert not {"accuracy", "top5"} & summary.keys()
    assert not (run.path / "confusion.png").exists()
    assert f"validation loss {float(rows[0].split(',')[3]):.4f}, mean average precision" in caplog.text
    assert run.config["data"]["multi_label"] is True
    assert run.recipe.metric == figure

    scores, labels = (torch.cat(parts).numpy() for parts in zip(*scored(run, several.val), strict=True))
    assert run.thresholds == pytest.approx(best_thresholds(scores, labels))
    assert [own["threshold"] for own in summary["per_class"].values()] == summary["thresholds"]
    pixels = several.val.read(torch.arange(5))
    np.testing.assert_allclose(run.predict(pixels), 1 / (1 + np.exp(-scores[:5].astype(float))), rtol=1e-5)
    assert evaluate(load_run(run.path), several.val).figures() == {
        name: summary[name] for name in (figure, "f1", "loss")
    }

    kept = chosen_images(run).split  # of arrays, which cannot be loaded again
    assert torch.equal(kept.labels, several.val.labels)
    text = card(run, replace(exported(run), description=replace(exported(run).description, thresholds=run.thresholds)))
    assert f"| mean average precision of the best epoch on the validation images | {summary[figure]:.1%} |" in text
    assert "Whatever an image shows, it gets those of them that reach their thresholds." in text
    assert "| class | validation images | average precision | precision | recall | F1 | threshold |" in text
    with pytest.raises(DataError, match=r"each of these images has one class; the network of .* any number"):
        evaluate(run, small_data().val)
    again = resume(run.path, data=several, progress=False)
    assert again.summary["thresholds"] == summary["thresholds"]
    changed = several_data()
    changed.val.labels[0] = 1 - changed.val.labels[0]
    with pytest.raises(DataError, match="1 of its 22 validation images have other labels"):
        resume(run.path, data=changed, progress=False)


def test_the_same_bits_after_an_interruption(several: ImageData, tmp_path: Path) -> None:
    """The history of a checkpoint has other figures than that of images with one class."""
    whole = trained(several, tmp_path / "whole", metric="f1")
    assert "val_f1" in (whole.path / "metrics.csv").read_text().splitlines()[0]
    (whole.path / "summary.json").unlink()
    last = (whole.path / "last.ckpt").read_bytes()
    assert resume(whole.path, data=several, progress=False).summary["f1"] == pytest.approx(
        MultiLabelEvaluation.of(
            CLASSES,
            load_run(whole.path).thresholds or (),
            *(torch.cat(parts).numpy() for parts in zip(*scored(whole, several.val), strict=True)),
        ).macro_f1
    )
    assert (whole.path / "last.ckpt").read_bytes() == last


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": "sampler"}, "recipe field balance is 'sampler', which needs one class an image; expected none or"),
        (
            {"metric": "balanced_accuracy"},
            "metric is 'balanced_accuracy', which needs one class an image; expected mean",
        ),
    ],
)
def test_recipes_that_need_one_class(several: ImageData, tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trained(several, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_what_needs_one_class_is_refused(several: ImageData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the teacher .* is for images with one class, but these may have several"):
        train("tiny", several, QUICK, tmp_path / "run", teacher=tmp_path, progress=False)
    with pytest.raises(ConfigError, match=r"metric is 'mean_average_precision', which goes with --multi-label data"):
        trained(small_data(), tmp_path / "run", metric="mean_average_precision")
    blank = several_data()
    blank.val.labels[:] = 0
    with pytest.raises(DataError, match="no validation image has a class, so no epoch can be judged"):
        trained(blank, tmp_path / "run")


@pytest.mark.parametrize("name", ["linear", "mex"])
def test_scores_start_at_the_shares_of_the_classes(several: ImageData, name: str) -> None:
    """Whatever all scores had in common before; what tells images apart stays."""
    torch.manual_seed(0)
    head = MexDense(192, 3) if name == "mex" else nn.Linear(192, 3)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), head)
    images = normalise(several.train.read(torch.arange(len(several.train))), several.mean, several.std)
    before = copy.deepcopy(model)(images)
    state = copy.deepcopy(model[1].state_dict())
    if isinstance(head, nn.Linear):
        with torch.no_grad():
            head.bias.add_(5)
    assert start_at_shares(model, several)
    after = copy.deepcopy(model)(images)
    torch.testing.assert_close(after - after.mean(0), before - before.mean(0))
    share = several.train.labels.double().mean(0)
    torch.testing.assert_close(after.mean(0), (share.log() - (1 - share).log()).float(), atol=1e-4, rtol=0)
    assert all(torch.equal(one, state[key]) for key, one in model[1].state_dict().items())
    assert not start_at_shares(model, several)  # nothing is gained a second time
    assert not start_at_shares(nn.Sequential(nn.Flatten(), nn.Linear(192, 3, bias=False)), several)
