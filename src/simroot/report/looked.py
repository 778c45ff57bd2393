"""How a network does on single images: which it gets most wrong, is least sure of, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from simroot.training.evaluation import collected

_BINS = 10


@dataclass(frozen=True)
class Looked:
    """Probabilities of images and their labels.

    Attributes:
        shares: float64 (N, classes), the softmax of the scores.
        labels: int64 (N,).
    """

    shares: Tensor
    labels: Tensor

    @property
    def predicted(self) -> Tensor:
        """int64 (N,): the most probable class of each image."""
        return self.shares.argmax(1)

    def most_wrong(self, count: int) -> Tensor:
        """The images that are taken for another class with the highest probability, the worst first."""
        wrong = (self.predicted != self.labels).nonzero().flatten()
        surest = self.shares.max(1).values[wrong].argsort(descending=True, stable=True)
        return wrong[surest[:count]]

    def said(self, index: int, classes: Sequence[str], *, unsure: bool) -> dict[str, Any]:
        """Of an image its class, the one that it is taken for, and the probabilities of both, sure or not."""
        label, predicted, shares = int(self.labels[index]), int(self.predicted[index]), self.shares[index]
        of_both = {"share": float(shares[predicted]), "own": float(shares[label])}
        return {"label": classes[label], "predicted": classes[predicted], **of_both}

    def calibration(self) -> Calibration:
        """See there."""
        return calibration(self)

    def least_sure(self, count: int) -> Tensor:
        """The images whose two most probable classes are closest, the closest first."""
        first, second = self.shares.topk(2).values.unbind(1)
        return (first - second).argsort(stable=True)[:count]


@dataclass(frozen=True)
class Calibration:
    """How often a network is right among the images where it is about as sure.

    Attributes:
        sure: the mean highest probability of each bin that has images, ascending.
        right: the share of its images that are right.
        count: the number of its images.
    """

    sure: tuple[float, ...]
    right: tuple[float, ...]
    count: tuple[int, ...]

    @property
    def error(self) -> float:
        """Expected calibration error, sum_b n_b/N |right_b - sure_b| (Guo et al. 2017), with ten bins of one width."""
        weighted = (n * abs(right - sure) for n, right, sure in zip(self.count, self.right, self.sure, strict=True))
        return sum(weighted) / sum(self.count)


def calibration(looked: Looked) -> Calibration:
    """The highest probabilities in ten bins of one width."""
    return binned(looked.shares.max(1).values, (looked.predicted == looked.labels).double())


def binned(sure: Tensor, right: Tensor) -> Calibration:
    """Probabilities (N,), and whether what they are of is so, 0 or 1."""
    place = (sure * _BINS).long().clamp(max=_BINS - 1)
    bins = [place == number for number in range(_BINS) if bool((place == number).any())]
    return Calibration(
        tuple(float(sure[own].mean()) for own in bins),
        tuple(float(right[own].mean()) for own in bins),
        tuple(int(own.sum()) for own in bins),
    )


def looked_at(batches: list[tuple[Tensor, Tensor]]) -> Looked:
    """From scores and labels, batch by batch."""
    scores, labels = collected(batches)
    return Looked(scores.double().softmax(1), labels)
