"""What a training asks of scores: the loss, and the figures that an epoch is judged by.

One objective is that of images with one class, the other that of images with any number. Network and batches are the
same for both.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchmetrics.utilities import dim_zero_cat

from simroot.data import ImageData
from simroot.data.balance import class_weights, positive_weights
from simroot.errors import ConfigError, DataError
from simroot.export.evaluation import OF_CONFUSION
from simroot.export.multi_label import THRESHOLD, MultiLabelEvaluation, mean_average_precision

if TYPE_CHECKING:
    from simroot.training.recipes import Recipe

MEAN_AVERAGE_PRECISION: Literal["mean_average_precision"] = "mean_average_precision"


class Objective(nn.Module):
    """The loss of scores (N, classes), and the figures of an epoch.

    ``figure`` is what all epochs have of training and validation images, in their rows as ``train_`` and ``val_``.
    ``factor`` is that of the loss in a step: what is reported is without it.
    """

    figure: str
    factor = 1.0
    train_figure: Metric
    val_figure: Metric

    @abstractmethod
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean over the images.

        Args:
            scores: (N, classes).
            targets: labels as they are, or floats (N, classes) of mixed images.
        """

    @abstractmethod
    def total(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The sum over images that are validated: without weights and smoothing."""

    @abstractmethod
    def hard(self, targets: Tensor) -> Tensor:
        """The labels that mixed targets (N, classes) are nearest to."""

    @abstractmethod
    def validated(self, scores: Tensor, labels: Tensor) -> None:
        """Count a batch of validation images."""

    @abstractmethod
    def chosen_by(self) -> dict[str, float]:
        """The validation figure that the recipe chooses epochs by, where it is another than ``figure`` and the loss."""

    def reset(self) -> None:
        """Start the validation anew."""
        for metric in self.children():
            if isinstance(metric, Metric) and metric is not self.train_figure:
                metric.reset()


class OneClass(Objective):
    """Softmax cross-entropy, ``-log softmax(scores)[label]``, and accuracy."""

    figure = "accuracy"
    class_weights: Tensor | None

    def __init__(self, data: ImageData, recipe: Recipe) -> None:
        super().__init__()
        classes = len(data.classes)
        self.metric, self.smoothing = recipe.metric, recipe.label_smoothing
        self.train_figure, self.val_figure = (
            MulticlassAccuracy(classes, average="micro", validate_args=False) for _ in range(2)
        )
        counted = self.metric in OF_CONFUSION
        self.confusion = MulticlassConfusionMatrix(classes, validate_args=False) if counted else None
        weights = class_weights(data.train.labels, classes) if recipe.balance == "loss" else None
        self.register_buffer("class_weights", weights, persistent=False)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        if self.class_weights is None:
            return functional.cross_entropy(scores.float(), targets, label_smoothing=self.smoothing)
        # The mean over images, whatever weight a batch has: so the shares of several processes are those of one.
        losses = functional.cross_entropy(
            scores.float(), targets, self.class_weights, label_smoothing=self.smoothing, reduction="none"
        )
        return losses.mean()

    def total(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See ``Objective``."""
        return functional.cross_entropy(scores, labels, reduction="sum")

    def hard(self, targets: Tensor) -> Tensor:
        """The class of the largest part."""
        return targets.argmax(1)

    def validated(self, scores: Tensor, labels: Tensor) -> None:
        """See ``Objective``."""
        self.val_figure.update(scores, labels)
        if self.confusion is not None:
            self.confusion.update(scores.argmax(1), labels)

    def chosen_by(self) -> dict[str, float]:
        """A figure of the confusion matrix."""
        if self.confusion is None:
            return {}
        return {self.metric: OF_CONFUSION[self.metric](self.confusion.compute().cpu().numpy())}


class AnyClasses(Objective):
    """Sigmoid cross-entropy, the sum over the classes, and mean average precision.

    With y of 0 and 1 it is ``sum_c -y_c log sigmoid(s_c) - (1 - y_c) log sigmoid(-s_c)``: the negative logarithm of the
    labels' probability, as the softmax cross-entropy is. A step's factor brings the gradient of scores of 0, which is
    ``sqrt(classes) / 2`` long, to the length 1 that it has there: so the rates of recipes suit both.
    """

    figure = MEAN_AVERAGE_PRECISION
    positive_weights: Tensor | None

    def __init__(self, data: ImageData, recipe: Recipe) -> None:
        super().__init__()
        self.factor = 2 / math.sqrt(len(data.classes))
        self.smoothing = recipe.label_smoothing
        self.train_figure, self.val_figure = (_OfAll(mean_average_precision) for _ in range(2))
        self.f1 = _OfAll(partial(_macro_f1, data.classes)) if recipe.metric == "f1" else None
        weights = positive_weights(data.train.labels) if recipe.balance == "loss" else None
        self.register_buffer("positive_weights", weights, persistent=False)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        wanted = targets.float() * (1 - self.smoothing) + self.smoothing / 2
        losses = functional.binary_cross_entropy_with_logits(
            scores.float(), wanted, pos_weight=self.positive_weights, reduction="sum"
        )
        return losses / len(scores)

    def total(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See ``Objective``."""
        return functional.binary_cross_entropy_with_logits(scores, labels.float(), reduction="sum")

    def hard(self, targets: Tensor) -> Tensor:
        """The classes that are at least half there."""
        return targets >= 0.5

    def validated(self, scores: Tensor, labels: Tensor) -> None:
        """See ``Objective``."""
        self.val_figure.update(scores, labels)
        if self.f1 is not None:
            self.f1.update(scores, labels)

    def chosen_by(self) -> dict[str, float]:
        """F1 where a probability of a half decides."""
        return {} if self.f1 is None else {"f1": float(self.f1.compute())}


class _OfAll(Metric):
    """A function of all scores and labels, (N, classes) each, in NumPy: what no sum over batches gives.

    torchmetrics' own average precision takes a class without images for one of precision 0.
    """

    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, function: Callable[[NDArray[Any], NDArray[Any]], float]) -> None:
        super().__init__()
        self.function = function
        for name in ("scores", "labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Keep them."""
        self.scores.append(scores)
        self.labels.append(labels)

    def compute(self) -> Tensor:
        """Of all that were kept, over all processes."""
        scores, labels = (dim_zero_cat(parts).float().cpu().numpy() for parts in (self.scores, self.labels))
        return torch.tensor(self.function(scores, labels), dtype=torch.float64)


def _macro_f1(classes: Sequence[str], scores: NDArray[Any], labels: NDArray[Any]) -> float:
    return MultiLabelEvaluation.of(classes, [THRESHOLD] * len(classes), scores, labels).macro_f1


def headline(known: Mapping[str, Any]) -> str:
    """The ``figure`` of the objective of a summary, or of an epoch's row."""
    several = {MEAN_AVERAGE_PRECISION, f"val_{MEAN_AVERAGE_PRECISION}"} & known.keys()
    return MEAN_AVERAGE_PRECISION if several else OneClass.figure


def objective(data: ImageData, recipe: Recipe) -> Objective:
    """What labels like these are trained with."""
    return (AnyClasses if data.multi_label else OneClass)(data, recipe)


def settled(recipe: Recipe, data: ImageData, teacher: object = None) -> Recipe:
    """The recipe for labels like these: its default metric is that of the objective.

    Raises:
        ConfigError: for what such labels do not bear.
    """
    if not data.multi_label:
        if recipe.metric == MEAN_AVERAGE_PRECISION:
            raise ConfigError(f"recipe field metric is {recipe.metric!r}, which goes with --multi-label data alone")
        return recipe
    if not data.val.labels.any():
        raise DataError(f"{data.name}: no validation image has a class, so no epoch can be judged; add some that have")
    if teacher is not None:
        raise ConfigError(
            f"the teacher {teacher} is for images with one class, but these may have several: leave it out"
        )
    if recipe.balance == "sampler":
        raise ConfigError("recipe field balance is 'sampler', which needs one class an image; expected none or loss")
    if recipe.metric == "balanced_accuracy":
        raise ConfigError(
            f"recipe field metric is {recipe.metric!r}, which needs one class an image; expected"
            f" {MEAN_AVERAGE_PRECISION}, f1 or loss"
        )
    return replace(recipe, metric=MEAN_AVERAGE_PRECISION) if recipe.metric == "accuracy" else recipe
