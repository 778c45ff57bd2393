"""How an exported file does on labelled images, with what runs it on the device: NumPy, Pillow and an engine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simroot.errors import DataError, counted
from simroot.export.predictor import Predictor
from simroot.images.listing import ImageFile

_BATCH = 64

logger = logging.getLogger("simroot")

# Pixels, uint8 (N, C, H, W), and their classes.
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


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

    @classmethod
    def counted(cls, classes: Sequence[str], confusion: NDArray[np.int64], among_five: int, loss: float) -> Evaluation:
        """From counts, and the sum of the images' losses.

        Raises:
            DataError: if there is no image.
        """
        right, images = confusion.diagonal(), confusion.sum(1)
        if not (count := int(images.sum())):
            raise DataError("there is no image to evaluate on")
        shares = np.divide(right, images, out=np.full(len(classes), np.nan), where=images > 0)
        per_class = dict(zip(classes, shares.tolist(), strict=True))
        return cls(int(right.sum()) / count, among_five / count, loss / count, per_class, confusion, count)


FileEvaluation = Evaluation


def evaluate_file(predictor: Predictor, batches: Iterable[Batch]) -> Evaluation:
    """Run a file over labelled images.

    Raises:
        DataError: if there is no image.
    """
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


def read_batches(predictor: Predictor, files: Sequence[ImageFile], labels: Sequence[int]) -> Iterator[Batch]:
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
            yield np.stack(pixels), np.array(kept, dtype=np.int64)
    if left_out:
        logger.warning("skipped %d of %s: they cannot be read", left_out, counted(len(files), "image"))
