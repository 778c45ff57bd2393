"""Small networks to turn into root networks: a bottleneck, and one with everything that cannot be grouped."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


def bottleneck(channels: int = 16) -> nn.Sequential:
    """First convolution, then 1x1, 3x3 and 1x1 with normalisation and a ReLU that all share."""
    relu = nn.ReLU(inplace=True)
    layers = {
        "stem": nn.Conv2d(3, 8, 3, padding=1),
        "relu0": relu,
        "reduce": nn.Conv2d(8, channels, 1),
        "norm1": nn.BatchNorm2d(channels),
        "relu1": relu,
        "spatial": nn.Conv2d(channels, channels, 3, padding=1),
        "norm2": nn.BatchNorm2d(channels),
        "relu2": relu,
        "expand": nn.Conv2d(channels, 12, 1),
    }
    return nn.Sequential(OrderedDict(layers))


def pyramid() -> nn.Sequential:
    """3x3 convolutions on grids of 8 (two), 4 and 2."""
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 16, 3, padding=1),
            a1=nn.Conv2d(16, 16, 3, padding=1),
            a2=nn.Conv2d(16, 32, 3, padding=1),
            b=nn.Conv2d(32, 32, 3, stride=2, padding=1),
            c=nn.Conv2d(32, 32, 3, stride=2, padding=1),
            head=nn.Conv2d(32, 5, 1),
        )
    )


class Between(nn.Module):
    """Four convolutions; c2 keeps everything in two groups of channels, in some order that the neighbours could follow.

    Args:
        wrap: makes something else of c3, which reads what c2 gives.
    """

    def __init__(self, wrap: Callable[[nn.Module], nn.Module] = lambda conv: conv) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, padding=1)
        self.c2 = nn.Conv2d(8, 8, 3, padding=1)
        self.c3 = wrap(nn.Conv2d(8, 8, 1))
        rows, columns = torch.randperm(8) % 2, torch.randperm(8) % 2
        self.c2.weight.data *= (rows[:, None] == columns)[:, :, None, None]

    def change(self, x: Tensor) -> Tensor:
        """What happens between the first two."""
        return x

    def give(self, first: Tensor, scores: Tensor) -> Any:
        """What is returned, of the first convolution's channels and the last one's."""
        return scores

    def forward(self, x: Tensor) -> Any:
        first = functional.relu(self.c1(x))
        x = functional.relu(self.c2(self.change(first)))
        return self.give(first, self.c3(x))


class Awkward(nn.Module):
    """One convolution that can be grouped among many that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.good = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.other = nn.Conv2d(8, 8, 3, padding=1)
        self.other.weight = self.one.weight
        self.normed = weight_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.functional = Functional()
        self.transposed = nn.ConvTranspose2d(8, 8, 3, padding=1)
        self.unused = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.grouped(self.depthwise(self.good(self.stem(x))))))
        x = self.normed(self.other(self.one(x)))
        return self.transposed(self.functional(x))


class Functional(nn.Module):
    """Its filters are a parameter, its convolution a function call."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.filters, padding=1)
