"""How a network does on single images that may have any number of classes: as ``looked``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simroot.report.looked import Calibration, binned


@dataclass(frozen=True)
class LookedSeveral:
    """Probabilities of images and their labels.

    Attributes:
        shares: float64 (N, classes), the sigmoids of the scores.
        labels: uint8 (N, classes).
        thresholds: float64 (classes,), the probability from which on an image is taken to have a class.
    """

    shares: Tensor
    labels: Tensor
    thresholds: Tensor

    @property
    def present(self) -> Tensor:
        """Bool (N, classes): what the images are taken to have."""
        return self.shares >= self.thresholds

    @property
    def _away(self) -> Tensor:
        """(N, classes): how far probabilities are beyond the threshold, as a share of the way to 0 or 1."""
        away = self.shares - self.thresholds
        return away.abs() / torch.where(away < 0, self.thresholds, 1 - self.thresholds).clamp(min=1e-12)

    @property
    def _wrong(self) -> Tensor:
        """(N, classes): the same of classes on the wrong side; below 0 of the others, the nearer the larger."""
        return torch.where(self.present != self.labels.bool(), self._away, -1 - self._away)

    def most_wrong(self, count: int) -> Tensor:
        """The images that are furthest on the wrong side of a class's threshold, the worst first."""
        furthest, order = self._wrong.max(1).values.sort(descending=True, stable=True)
        return order[furthest >= 0][:count]

    def least_sure(self, count: int) -> Tensor:
        """The images that have a class nearest to its threshold, the nearest first."""
        return self._away.min(1).values.argsort(stable=True)[:count]

    def calibration(self) -> Calibration:
        """The probabilities of all pairs of image and class in ten bins of one width."""
        return binned(self.shares.flatten(), self.labels.flatten().double())

    def said(self, index: int, classes: Sequence[str], *, unsure: bool) -> dict[str, Any]:
        """Of an image its classes, those that it is taken to have, and the one least sure or furthest from right."""
        which = int(self._away[index].argmin() if unsure else self._wrong[index].argmax())
        label, predicted = (
            ", ".join(name for name, mark in zip(classes, marks.tolist(), strict=True) if mark) or "no class"
            for marks in (self.labels[index], self.present[index])
        )
        share = float(self.shares[index, which])
        return {"label": label, "predicted": predicted, "share": share, "which": classes[which]}
