"""Residual blocks of blueprint separable convolutions: 1x1 convolutions, then depthwise ones."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.guarded import subsampled

# A blueprint's subspace: this share of the input channels, and no fewer than that.
_SHARE, _FEWEST = 0.25, 4

# Input channels, output channels -> layers before the spatial convolution.
Embedding = Callable[[int, int], OrderedDict[str, nn.Module]]


def unconstrained(inputs: int, outputs: int) -> OrderedDict[str, nn.Module]:
    """BSConv-U (Haase and Amthor, CVPR 2020): one 1x1 convolution, M -> N."""
    return OrderedDict(pointwise=nn.Conv2d(inputs, outputs, 1, bias=False))


def subspace(inputs: int, outputs: int) -> OrderedDict[str, nn.Module]:
    """BSConv-S: two 1x1 convolutions, M -> M' -> N with M' = max(4, ceil(M / 4)), each with batch normalisation."""
    middle = min(inputs, max(_FEWEST, math.ceil(_SHARE * inputs)))
    return OrderedDict(pointwise1=ScaledConv2d(inputs, middle, 1), pointwise2=ScaledConv2d(middle, outputs, 1))


class PreActivationBlock(nn.Module):
    """Two separable convolutions, each behind batch normalisation and ReLU, added to the input.

    (N, C, H, W) -> (N, D, H / stride, W / stride). Each is an embedding, then a depthwise 3x3 convolution. Where
    channels or size change, the shortcut is a 1x1 convolution of the activated input.

    Args:
        in_channels: C.
        out_channels: D.
        stride: step of the first convolution.
        embedding: layers before each depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, embedding: Embedding) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        # The batch normalisation that follows the first convolution folds into its depthwise part.
        first = ScaledConv2d(out_channels, out_channels, 3, stride=stride, groups=out_channels)
        self.conv1 = nn.Sequential(embedding(in_channels, out_channels) | {"depthwise": first})
        second = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False)
        self.conv2 = nn.Sequential(embedding(out_channels, out_channels) | {"depthwise": second})
        self.stride = stride
        self.shortcut: nn.Module | None = None
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm(x))
        y = self.conv2(F.relu(self.conv1(active)))
        if self.shortcut is None:
            return x + y
        return self.shortcut(subsampled(active, self.stride)) + y
