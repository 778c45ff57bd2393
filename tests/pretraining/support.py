"""Small networks and images with structure to pre-train them on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from simroot.models.simnets.architecture import SimNet, Stage

LEARN_ORDER = ("templates", "weights", "offsets", "beta", "global_beta", "order")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_images(count: int = 60, size: int = 12, channels: int = 2) -> Tensor:
    """Images whose neighbouring pixels and channels go together, heavy-tailed, with a mean."""
    noise = torch.randn(count, channels, size + 2, size + 2, generator=generator(1)) ** 3
    blurred = torch.nn.functional.avg_pool2d(noise, 3, 1)
    return blurred + 0.5 * blurred.mean(1, keepdim=True) + torch.arange(channels).view(-1, 1, 1) + 0.3


def network(*stages: Stage, in_channels: int = 2, **options: Any) -> SimNet:
    torch.manual_seed(0)
    return SimNet(stages or (Stage(6, 5, 3),), 3, in_channels, **options)
