"""Training images mixed with others of their batch, and the labels with them: mixup and cutmix.

Zhang et al. 2018 and Yun et al. 2019, with a share and a partner of its own for every image. All that is random is
drawn with NumPy's generator, so that the epoch's seed gives the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from simroot.data.labels import is_multi_label


class Mixture(NamedTuple):
    """How a batch is mixed.

    Attributes:
        partners: int64 (B,): the image that each is mixed with; every image is a partner once.
        shares: float32 (B, 1, H, W) or (B, 1, 1, 1): of the image itself in each pixel; the partner has the rest.
    """

    partners: Tensor
    shares: Tensor

    def images(self, images: Tensor) -> Tensor:
        """The mixed images (B, C, H, W): shares * image + (1 - shares) * partner."""
        partners = images[self.partners.to(images.device)]
        return partners + self.shares.to(images.device) * (images - partners)

    def targets(self, labels: Tensor, classes: int) -> Tensor:
        """Probabilities (B, classes): of each label its image's part of the pixels.

        Args:
            labels: int64 (B,), or uint8 (B, classes) where images have any number of classes.
            classes: their number.
        """
        own = labels.float() if is_multi_label(labels) else functional.one_hot(labels, classes).float()
        share = self.shares.mean((1, 2, 3)).to(labels.device)[:, None]
        return own * share + own[self.partners.to(labels.device)] * (1 - share)


@dataclass(frozen=True)
class Mixing:
    """Which mixtures are drawn; of a batch each image takes part in mixup or in cutmix, by a throw of a coin if both.

    Attributes:
        mixup: a of Beta(a, a), from which an image's share of all pixels is drawn; 0 is no mixup.
        cutmix: a of Beta(a, a), from which the share of the pixels outside a box is drawn, in which the partner is
            seen; 0 is no cutmix.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def draw(self, count: int, size: tuple[int, int], generator: np.random.Generator) -> Mixture:
        """The mixture of a batch of ``count`` images of height and width ``size``."""
        partners = torch.from_numpy(generator.permutation(count))
        coins = generator.random(count)
        mixed = generator.beta(self.mixup, self.mixup, count) if self.mixup else np.ones(count)
        shares: NDArray[np.float64] = mixed[:, None, None]
        if self.cutmix:
            area, middles = generator.beta(self.cutmix, self.cutmix, count), generator.random((2, count))
            outside = (~_boxes(size, np.sqrt(1 - area), middles)).astype(np.float64)
            shares = np.where(coins[:, None, None] < 0.5, shares, outside) if self.mixup else outside
        return Mixture(partners, torch.from_numpy(shares.astype(np.float32))[:, None])


def _boxes(size: tuple[int, int], side: NDArray[np.float64], middles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the boxes are, (B, H, W): of so much of height and width, around a middle anywhere; some reach beyond."""
    inside = []
    for length, middle in zip(size, middles, strict=True):
        position = (np.arange(length) + 0.5) / length
        inside.append(np.abs(position - middle[:, None]) < side[:, None] / 2)
    return inside[0][:, :, None] & inside[1][:, None, :]
