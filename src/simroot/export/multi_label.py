"""How a network does on images that may have any number of classes: average precision, and F1 at thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simroot.errors import DataError

THRESHOLD = 0.5
"""Of a class for which no validation image speaks."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """How a network, or a file of one, does on images that may have any number of classes.

    Attributes:
        classes: names in the order of the scores.
        thresholds: the probability from which on an image is taken to have a class.
        loss: the sum over the classes of the sigmoid cross-entropy, averaged over the images.
        average_precisions: of each class; NaN without an image that has it.
        images: how many images have each class.
        taken: how many are taken to have it.
        right: how many of these have it.
        count: number of images.
    """

    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    loss: float
    average_precisions: tuple[float, ...]
    images: tuple[int, ...]
    taken: tuple[int, ...]
    right: tuple[int, ...]
    count: int

    # What ``by_class`` says beside the number of images.
    columns: ClassVar[Mapping[str, str]] = {
        "average_precision": "average precision",
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "threshold": "threshold",
    }

    @classmethod
    def of(
        cls, classes: Sequence[str], thresholds: Sequence[float], scores: NDArray[Any], labels: NDArray[Any]
    ) -> MultiLabelEvaluation:
        """From scores (N, classes) and labels (N, classes) of 0 and 1.

        Raises:
            DataError: if there is no image.
        """
        if not len(scores):
            raise DataError("there is no image to evaluate on")
        scores, own = scores.astype(np.float64), labels.astype(bool)
        present = sigmoid(scores) >= thresholds
        losses = np.logaddexp(0, scores) - np.where(own, scores, 0)
        return cls(
            tuple(classes),
            tuple(map(float, thresholds)),
            float(losses.sum() / len(scores)),
            tuple(average_precisions(scores, labels).tolist()),
            _counts(own),
            _counts(present),
            _counts(own & present),
            len(scores),
        )

    @property
    def mean_average_precision(self) -> float:
        """The mean over the classes that have images."""
        return mean(self.average_precisions)

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 of the classes that have images."""
        return mean(own["f1"] for own in self.by_class().values() if own["images"])

    def by_class(self) -> dict[str, dict[str, Any]]:
        """Class name -> images, average precision, precision, recall, F1 and threshold; what there is not is None."""
        columns = zip(self.images, self.taken, self.right, self.average_precisions, self.thresholds, strict=True)
        return {
            name: {
                "images": images,
                "average_precision": precision if images else None,
                "precision": right / taken if taken else None,
                "recall": right / images if images else None,
                "f1": 2 * right / (images + taken) if images else None,
                "threshold": threshold,
            }
            for name, (images, taken, right, precision, threshold) in zip(self.classes, columns, strict=True)
        }

    def figures(self) -> dict[str, Any]:
        """What is said of all classes, as JSON has it."""
        return {"mean_average_precision": self.mean_average_precision, "f1": self.macro_f1, "loss": self.loss}

    def shares(self) -> dict[str, float]:
        """What is said of all classes, for people."""
        return {"mean average precision": self.mean_average_precision, "F1": self.macro_f1}

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**self.figures(), "classes": self.by_class()}


def _counts(found: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(found.sum(0).tolist())


def sigmoid(scores: NDArray[Any]) -> Floats:
    """1 / (1 + exp(-scores))."""
    found: Floats = np.exp(-np.logaddexp(0, -scores.astype(np.float64)))
    return found


def mean(values: Any) -> float:
    """The mean of what is a number; NaN if nothing is."""
    found = [value for value in values if value == value]
    return sum(found) / len(found) if found else float("nan")


def average_precisions(scores: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """float64 (classes,): sum_n (R_n - R_(n-1)) P_n over the distinct scores, precision P and recall R from there up.

    Args:
        scores: (N, classes); probabilities do as well, unless they are rounded to 1.
        labels: (N, classes) of 0 and 1. A class without a 1 has NaN.
    """
    found = np.full(scores.shape[1], np.nan)
    for index, (own, marks) in enumerate(zip(scores.T, labels.T, strict=True)):
        _, right, taken = _ranked(own, marks)
        if right[-1:].any():
            found[index] = (np.diff(right, prepend=0) / right[-1] * (right / taken)).sum()
    return found


def mean_average_precision(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """The mean of ``average_precisions`` over the classes that have images."""
    return mean(average_precisions(scores, labels).tolist())


def best_thresholds(scores: NDArray[Any], labels: NDArray[Any]) -> tuple[float, ...]:
    """For each class the probability from which on taking images to have it gives the largest F1.

    It lies in the middle between the last image that is taken and the next one, so that rounding changes nothing.

    Args:
        scores: (N, classes).
        labels: (N, classes) of 0 and 1. A class without a 1 has ``THRESHOLD``.
    """
    return tuple(_best_threshold(own, marks) for own, marks in zip(sigmoid(scores).T, labels.T, strict=True))


def _best_threshold(shares: Floats, labels: NDArray[Any]) -> float:
    values, right, taken = _ranked(shares, labels)
    if not right[-1:].any():
        return THRESHOLD
    best = int((right / (right[-1] + taken)).argmax())
    return float((values[best] + np.append(values, 0.0)[best + 1]) / 2)


def _ranked(scores: NDArray[Any], labels: NDArray[Any]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The distinct scores from the highest down, and of the images from there up those that are right, and all."""
    order = np.argsort(-scores, kind="stable")
    values = scores[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], [True] * bool(len(values))))
    return values[last].astype(np.float64), labels[order].astype(np.int64).cumsum()[last], last + 1
