"""Residual blocks of separable convolutions: 1x1 convolutions, then spatial filters in groups."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.grouped import GroupedConv2d
from simroot.layers.guarded import subsampled

# A blueprint's subspace: this share of the input channels, and no fewer than that.
_SHARE, _FEWEST = 0.25, 4

# Input channels, output channels -> layers before the spatial convolution.
Embedding = Callable[[int, int], OrderedDict[str, nn.Module]]


def unconstrained(inputs: int, outputs: int) -> OrderedDict[str, nn.Module]:
    """BSConv-U (Haase and Amthor, CVPR 2020): one 1x1 convolution, M -> N."""
    return OrderedDict(pointwise=nn.Conv2d(inputs, outputs, 1, bias=False))


def subspace(inputs: int, outputs: int, share: float = _SHARE) -> OrderedDict[str, nn.Module]:
    """BSConv-S: two 1x1 convolutions, M -> M' -> N with M' = max(4, ceil(M / 4)), each with batch normalisation.

    Args:
        inputs: M.
        outputs: N.
        share: of M in M', in place of a quarter.
    """
    middle = min(inputs, max(_FEWEST, math.ceil(share * inputs)))
    return OrderedDict(pointwise1=ScaledConv2d(inputs, middle, 1), pointwise2=ScaledConv2d(middle, outputs, 1))


def low_rank(share: float) -> Embedding:
    """1x1 convolutions through a share of the input channels; of all channels, a single one."""
    return unconstrained if share >= 1 else partial(subspace, share=share)


class PreActivationBlock(nn.Module):
    """Two separable convolutions, each behind batch normalisation and ReLU, added to the input.

    (N, C, H, W) -> (N, D, H / stride, W / stride). Each is an embedding, then a spatial convolution in groups: a root
    module (Deep Roots, section 3) whose 1x1 convolutions are those of the next. With groups of one channel they are
    blueprint separable. Where channels or size change, the shortcut is a 1x1 convolution of the activated input.

    Args:
        in_channels: C.
        out_channels: D.
        stride: step of the first convolution.
        embedding: layers before each spatial convolution.
        kernel_size: of the spatial convolutions, odd.
        group_width: channels in each of their groups; divides D.
        expansion: channels between the two as a multiple of D.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        embedding: Embedding,
        *,
        kernel_size: int = 3,
        group_width: int = 1,
        expansion: int = 1,
    ) -> None:
        super().__init__()
        hidden, padding = expansion * out_channels, kernel_size // 2
        self.norm = nn.BatchNorm2d(in_channels)
        # The batch normalisation that follows the first convolution folds into its spatial part.
        first = ScaledConv2d(hidden, hidden, kernel_size, stride=stride, groups=hidden // group_width)
        self.conv1 = nn.Sequential(embedding(in_channels, hidden) | {"depthwise": first})
        convolution, groups = nn.Conv2d if group_width == 1 else GroupedConv2d, out_channels // group_width
        second = convolution(out_channels, out_channels, kernel_size, padding=padding, groups=groups, bias=False)
        self.conv2 = nn.Sequential(embedding(hidden, out_channels) | {"depthwise": second})
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
