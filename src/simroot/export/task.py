"""What a network's scores say of an image: that it has one of the classes, or of each class whether it has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simroot.export.multi_label import mean_average_precision, sigmoid

Scores = NDArray[np.floating[Any]]


class Task(ABC):
    """The meaning of scores (N, classes). ``figure`` is what a network is judged by, a share."""

    figure: ClassVar[str]

    @abstractmethod
    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """Of the classes, (N, classes)."""

    @abstractmethod
    def said(self, shares: NDArray[np.float64], top: int | None) -> list[int]:
        """The classes that are named of an image with these probabilities, (classes,), the most probable first.

        ``top`` asks for so many, whatever their probabilities.
        """

    @abstractmethod
    def agreement(self, scores: Scores, others: Scores) -> float:
        """The share of decisions that two networks have in common."""

    @abstractmethod
    def quality(self, scores: Scores, labels: NDArray[np.integer[Any]]) -> float:
        """The ``figure`` of labelled images."""


class OneClass(Task):
    """Every image has one class: that of the highest score. Probabilities are their softmax."""

    figure = "accuracy"

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """See ``Task``."""
        wide = scores.astype(np.float64)
        exponentials = np.exp(wide - wide.max(1, keepdims=True, initial=-np.inf))
        found: NDArray[np.float64] = exponentials / exponentials.sum(1, keepdims=True)
        return found

    def said(self, shares: NDArray[np.float64], top: int | None) -> list[int]:
        """The most probable one, or so many."""
        return _ordered(shares)[: 1 if top is None else top]

    def agreement(self, scores: Scores, others: Scores) -> float:
        """Of images in the same class."""
        return self.quality(scores, others.argmax(1))

    def quality(self, scores: Scores, labels: NDArray[np.integer[Any]]) -> float:
        """The share of images in their class."""
        return float((scores.argmax(1) == labels).mean())


@dataclass(frozen=True)
class AnyClasses(Task):
    """An image has every class whose probability, the sigmoid of its score, is at least the class's threshold."""

    thresholds: tuple[float, ...]

    figure = "mean average precision"

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """See ``Task``."""
        return sigmoid(scores)

    def present(self, scores: Scores) -> NDArray[np.bool_]:
        """(N, classes): whether an image is taken to have a class."""
        return self.probabilities(scores) >= self.thresholds

    def said(self, shares: NDArray[np.float64], top: int | None) -> list[int]:
        """All that reach their thresholds, or so many."""
        if top is not None:
            return _ordered(shares)[:top]
        return [index for index in _ordered(shares) if shares[index] >= self.thresholds[index]]

    def agreement(self, scores: Scores, others: Scores) -> float:
        """Of pairs of image and class."""
        return float((self.present(scores) == self.present(others)).mean())

    def quality(self, scores: Scores, labels: NDArray[np.integer[Any]]) -> float:
        """The mean average precision."""
        return mean_average_precision(scores, labels)


ONE_CLASS = OneClass()


def task_of(thresholds: Sequence[float] | None) -> Task:
    """The task of a file or a run by its thresholds, which it has if an image may have any number of classes."""
    return ONE_CLASS if thresholds is None else AnyClasses(tuple(thresholds))


def _ordered(shares: NDArray[np.float64]) -> list[int]:
    found: list[int] = np.argsort(-shares, kind="stable").tolist()
    return found
