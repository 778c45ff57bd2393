"""What labels are: one class of each image, int64 (N,), or any number of them, uint8 (N, classes) of 0 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simroot.data.hashes import pixel_hashes
from simroot.errors import DataError


def is_multi_label(labels: Tensor) -> bool:
    """Whether an image may have any number of classes."""
    return labels.ndim == 2


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """int64 (classes,): how many images each class has."""
    return labels.sum(0) if is_multi_label(labels) else labels.bincount(minlength=classes)


def require_classes(labels: Tensor, classes: int, what: str) -> None:
    """Refuse labels of no class.

    Raises:
        DataError: naming the labels as ``what``.
    """
    if is_multi_label(labels):
        if labels.shape[1] != classes or labels.max() > 1:
            found = f"{tuple(labels.shape)} up to {int(labels.max())}"
            raise DataError(f"{what} are {found}, expected 0 or 1 for each of {classes} classes")
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(f"{what} go from {low} to {high}, expected 0 to {classes - 1}")


def as_numbers(labels: Tensor) -> Tensor:
    """int64 (N,): a number for what an image's label says: its class, or a hash of its classes."""
    return pixel_hashes(labels) if is_multi_label(labels) else labels


def held_out(labels: NDArray[np.uint8], order: NDArray[np.intp], count: int, leave: int) -> NDArray[np.bool_]:
    """Bool (N,): the first ``count`` images in an order that leave ``leave`` of each of their classes to the others.

    Where there are too few of these, the next ones in the order.
    """
    chosen, left = np.zeros(len(labels), dtype=bool), labels.sum(0, dtype=np.int64)
    for index in order:
        if count and (not leave or (left[labels[index] > 0] > leave).all()):
            left -= labels[index]
            chosen[index] = True
            count -= 1
    chosen[order[~chosen[order]][:count]] = True
    return chosen
