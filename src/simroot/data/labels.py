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
    """Bool (N,): ``count`` images with the classes about in proportion; ``leave`` of each class are left to the others.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011): the images of the class with the fewest open
    ones, in an order, go each to the part that lacks most of that class. Having no class counts as one more. Where too
    few images leave others of their classes, the next ones in the order are taken.
    """
    marks = np.column_stack((labels, labels.sum(1) == 0)).astype(np.int64)
    totals = marks.sum(0)
    lacking = np.outer((count, len(labels) - count), totals / len(labels))  # of the part and of the rest, by class
    room = np.array((count, len(labels) - count))
    chosen, is_open = np.zeros(len(labels), dtype=bool), np.ones(len(labels), dtype=bool)
    while is_open.any():
        counts = marks[is_open].sum(0)
        rarest = int(np.where(counts > 0, counts, len(labels) + 1).argmin())
        for index in order[is_open[order] & (marks[order, rarest] > 0)]:
            own = marks[index] > 0
            first, second = zip(lacking[:, rarest], room, strict=True)
            wanted = room[0] > 0 and (first >= second or room[1] <= 0)
            chosen[index] = wanted and (totals[own] > leave).all()
            part = 0 if chosen[index] else 1
            totals[own] -= chosen[index]
            lacking[part, own] -= 1
            room[part] -= 1
            is_open[index] = False
    for index in order[~chosen[order]] if room[0] else ():  # instead of some that had to be left
        own = marks[index] > 0
        if room[0] and (totals[own] > leave).all():
            chosen[index] = True
            totals[own] -= 1
            room[0] -= 1
    chosen[order[~chosen[order]][: room[0]]] = True
    return chosen
