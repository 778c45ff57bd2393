"""How an exported file does on labelled images, with what runs it on the device: NumPy, Pillow and an engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simroot.errors import DataError, counted
from simroot.export.multi_label import MultiLabelEvaluation
from simroot.export.predictor import Predictor
from simroot.images.listing import ImageFile

_BATCH = 64
_FEW_CLASSES = 10

logger = logging.getLogger("simroot")

# Pixels, uint8 (N, C, H, W), and their labels: see ``simroot.data.labels``.
Batch = tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class Evaluation:
    """How a network, or a file of one, does on labelled images.

    Attributes:
        accuracy: share of the images whose highest score is that of their class.
        top5: share of the images whose class has one of the five highest scores.
        loss: mean softmax cross-entropy.
        per_class: class name -> share of its images that are right; NaN for a class without images.
        confusion: int64 (classes, classes), rows the true classes, columns the predicted ones.
        count: number of images.
    """

    accuracy: float
    top5: float
    loss: float
    per_class: dict[str, float]
    confusion: NDArray[np.int64]
    count: int

    # What ``by_class`` says beside the number of images.
    columns: ClassVar[Mapping[str, str]] = {"precision": "precision", "recall": "recall", "f1": "F1"}

    @classmethod
    def counted(cls, classes: Sequence[str], confusion: NDArray[np.int64], among_five: int, loss: float) -> Evaluation:
        """From counts, and the sum of the images' losses.

        Raises:
            DataError: if there is no image.
        """
        right, images = confusion.diagonal(), confusion.sum(1)
        if not (count := int(images.sum())):
            raise DataError("there is no image to evaluate on")
        shares = _shares(confusion, images)
        per_class = dict(zip(classes, shares.tolist(), strict=True))
        return cls(int(right.sum()) / count, among_five / count, loss / count, per_class, confusion, count)

    @property
    def precision(self) -> dict[str, float]:
        """Class name -> share of the images taken for it that are of it; NaN if none is."""
        return self._named(_shares(self.confusion, self.confusion.sum(0)))

    @property
    def recall(self) -> dict[str, float]:
        """Class name -> share of its images that are taken for it; ``per_class`` by its other name."""
        return self.per_class

    @property
    def f1(self) -> dict[str, float]:
        """Class name -> harmonic mean of precision and recall; NaN for a class without images."""
        return self._named(_f1(self.confusion))

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the recalls of the classes that have images."""
        return balanced_accuracy(self.confusion)

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 of the classes that have images."""
        return macro_f1(self.confusion)

    def by_class(self) -> dict[str, dict[str, Any]]:
        """Class name -> images, precision, recall and F1, as JSON has them: what there is not is None."""
        images = self._named(self.confusion.sum(1))
        figures = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {
            name: {"images": count, **{kind: _or_none(values[name]) for kind, values in figures.items()}}
            for name, count in images.items()
        }

    def figures(self) -> dict[str, Any]:
        """What is said of all classes, as JSON has it."""
        of_confusion = {"balanced_accuracy": self.balanced_accuracy, "f1": self.macro_f1}
        return {"accuracy": self.accuracy, "top5": self.top5, "loss": self.loss, **of_confusion}

    def shares(self) -> dict[str, float]:
        """What is said of all classes, for people."""
        # Among few classes, chance alone puts the true one among the five highest scores every other time.
        five = {"among the five highest scores": self.top5} if len(self.per_class) > _FEW_CLASSES else {}
        others = {"balanced accuracy": self.balanced_accuracy, "F1": self.macro_f1}
        return {"accuracy": self.accuracy, **five, **others}

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        per_class = {label: _or_none(share) for label, share in self.per_class.items()}
        rows = {"per_class": per_class, "classes": self.by_class(), "confusion": self.confusion.tolist()}
        return {**self.figures(), **rows}

    def _named(self, values: NDArray[Any]) -> dict[str, Any]:
        return dict(zip(self.per_class, values.tolist(), strict=True))


FileEvaluation = Evaluation


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """The mean recall of the classes with images, from a confusion matrix with rows of true classes."""
    return float(np.nanmean(_shares(confusion, confusion.sum(1))))


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """The mean F1 of the classes with images, from a confusion matrix."""
    return float(np.nanmean(_f1(confusion)))


# Figures of a confusion matrix by which a recipe can choose an epoch.
OF_CONFUSION: Mapping[str, Callable[[NDArray[np.int64]], float]] = {
    "balanced_accuracy": balanced_accuracy,
    "f1": macro_f1,
}


def _shares(confusion: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(confusion.diagonal(), of, out=np.full(len(of), np.nan), where=of > 0)


def _f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN)."""
    images, taken = confusion.sum(1), confusion.sum(0)
    return np.divide(2 * confusion.diagonal(), images + taken, out=np.full(len(images), np.nan), where=images > 0)


def _or_none(value: float) -> float | None:
    return value if value == value else None


def evaluate_file(predictor: Predictor, batches: Iterable[Batch]) -> Any:
    """Run a file over labelled images.

    Returns:
        An ``Evaluation``, or a ``MultiLabelEvaluation`` of a file with thresholds.

    Raises:
        DataError: if there is no image.
    """
    thresholds = predictor.description.thresholds
    if thresholds is None:
        return _evaluate(predictor, batches)
    pairs = [(predictor.scores(pixels), labels) for pixels, labels in batches]
    if not pairs:
        raise DataError("there is no image to evaluate on")
    scores, labels = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return MultiLabelEvaluation.of(predictor.classes, thresholds, scores, labels)


def _evaluate(predictor: Predictor, batches: Iterable[Batch]) -> Evaluation:
    classes = len(predictor.classes)
    confusion, among_five, loss = np.zeros((classes, classes), np.int64), 0, 0.0
    for pixels, labels in batches:
        scores = predictor.scores(pixels).astype(np.float64)
        np.add.at(confusion, (labels, scores.argmax(1)), 1)
        own = np.take_along_axis(scores, labels[:, None], 1)
        among_five += int(((scores > own).sum(1) < 5).sum())
        highest = scores.max(1, keepdims=True)
        loss += float((np.log(np.exp(scores - highest).sum(1)) + (highest - own)[:, 0]).sum())
    return Evaluation.counted(predictor.classes, confusion, among_five, loss)


def read_batches(predictor: Predictor, files: Sequence[ImageFile], labels: NDArray[np.integer[Any]]) -> Iterator[Batch]:
    """Image files prepared as the network takes them; those that cannot be read are named in the log and left out."""
    left_out = 0
    for start in range(0, len(files), _BATCH):
        pixels, kept = [], []
        for file, label in zip(files[start : start + _BATCH], labels[start : start + _BATCH], strict=True):
            try:
                pixels.append(predictor.read(file.source))
                kept.append(label)
            except DataError as error:
                left_out += 1
                logger.warning("skipped: %s: %s", file.name, error)
        if kept:
            yield np.stack(pixels), np.array(kept, dtype=labels.dtype)
    if left_out:
        logger.warning("skipped %d of %s: they cannot be read", left_out, counted(len(files), "image"))
