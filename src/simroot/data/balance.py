"""Classes of unlike size: what makes the small ones count as much as the large ones."""

from __future__ import annotations

import torch
from torch import Tensor

from simroot.data.labels import class_counts
from simroot.data.splits import ImageData
from simroot.errors import quoted

_UNEVEN = 3  # times as many images, from which on it is said


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Float32 (classes,): n / (classes * n_c), so that all classes weigh alike and an image weighs 1 on average.

    Args:
        labels: int64 (N,), each class at least once.
        classes: their number.
    """
    return len(labels) / (classes * labels.bincount(minlength=classes).double()).float()


def positive_weights(labels: Tensor) -> Tensor:
    """Float32 (classes,): (n - n_c) / n_c, so that those that have a class weigh as much as those that do not.

    Args:
        labels: uint8 (N, classes), each class at least once.
    """
    counts = labels.sum(0).double()
    return ((len(labels) - counts) / counts).float()


def balanced_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Indices of as many examples, int64 (N,), all classes alike often (but for one), in random order.

    Large classes show a random part of their examples, small ones all of theirs, each nearly as often as the others.
    """
    kinds = labels.unique()
    kinds = kinds[torch.randperm(len(kinds), generator=generator)]
    share, rest = divmod(len(labels), len(kinds))
    chosen = []
    for number, kind in enumerate(kinds):
        own, wanted = (labels == kind).nonzero().flatten(), share + (number < rest)
        rounds = [own[torch.randperm(len(own), generator=generator)] for _ in range(-(-wanted // len(own)))]
        chosen.append(torch.cat(rounds)[:wanted] if rounds else own[:0])
    order = torch.cat(chosen)
    return order[torch.randperm(len(order), generator=generator)]


def uneven_line(data: ImageData) -> str:
    """A line about classes of unlike size to train on; empty if none is three times as large as another."""
    counts = class_counts(data.train.labels, len(data.classes))
    least, most = (int(index) for index in (counts.argmin(), counts.argmax()))
    if counts[most] < _UNEVEN * counts[least]:
        return ""
    largest, smallest = (quoted(data.classes[index])[1:-1] for index in (most, least))
    first, second = int(counts[most]), int(counts[least])
    return f"classes of unlike size: {largest} has {first:,} training images, {smallest} {second:,}"
