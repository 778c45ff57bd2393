"""A network after "tiniest", which has 94.4 % on CIFAR-10 with 97,530 parameters (github.com/xvel/cifar10-tiniest)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.models.building import ImageSize, dense, require_image_size, require_positive
from simroot.models.registry import register

# The channels are split into so many parts, each seen at a distance of its own.
_PARTS = 4
# Channels of the second stage as a multiple of the first's, and the groups of the convolution between the two.
_GROWTH, _GROUPS = 5 / 3, 16


class ChannelNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels at every position; (N, C, H, W) -> (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GatedBlock(nn.Module):
    """Depthwise convolutions of several extents, normalisation, a gated 1x1 unit; (N, C, H, W) -> (N, C, H, W).

    A quarter of the channels each passes as it is, through 3x3 and 7x7 filters, and through a 3x3 mean and 7x7 filters
    with three pixels between their taps. Then ``y = W_2 (tanh(exp(a)) a b) + scale x`` with a and b the halves of a 1x1
    convolution, and a learned scale for each channel.

    Args:
        channels: C, a multiple of 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // _PARTS
        self.near = nn.Conv2d(part, part, 3, padding=1, groups=part)
        self.far = nn.Conv2d(part, part, 7, padding=3, groups=part)
        self.farthest = nn.Sequential(
            nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(part, part, 7, padding=9, dilation=3, groups=part)
        )
        self.norm = ChannelNorm2d(channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        same, near, far, farthest = x.chunk(_PARTS, dim=1)
        y = torch.cat((same, self.near(near), self.far(far), self.farthest(farthest)), dim=1)
        a, b = self.expand(self.norm(y)).chunk(2, dim=1)
        projected: Tensor = self.project(F.tanh(a.exp()) * a * b)
        return projected + x * self.scale[:, None, None]


@register(
    parameters=97_530,
    macs=43_878_176,
    recipe={"optimizer": "adamw", "learning_rate": 0.02, "weight_decay": 1e-2, "warmup": 0.01},
)
def tiniest(
    num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32, channels: int = 48, depth: int = 3
) -> nn.Module:
    """Gated blocks of depthwise convolutions near and far, in two stages, after xvel's "tiniest" (2023).

    Overrides:
        image_size: at least 4.
        channels: channels of the stem and the first stage, a multiple of 4; the second has five thirds as many, rounded
            to a multiple of 4.
        depth: blocks in each stage.
    """
    require_image_size("tiniest", image_size, smallest=4)
    require_positive("tiniest", channels=channels, depth=depth)
    if channels % _PARTS:
        raise ConfigError(f"channels of tiniest is {channels}; expected a multiple of {_PARTS}")
    wide = round(_GROWTH * channels / _PARTS) * _PARTS
    groups = max(n for n in range(1, _GROUPS + 1) if channels % n == 0 and wide % n == 0)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Conv2d(in_channels, channels, 3, padding=1), norm1=ChannelNorm2d(channels)
    )
    layers |= {f"block1_{index}": GatedBlock(channels) for index in range(1, depth + 1)}
    layers["halve"] = nn.Conv2d(channels, wide, 4, stride=2, padding=1, groups=groups)
    layers["norm2"] = ChannelNorm2d(wide)
    layers |= {f"block2_{index}": GatedBlock(wide) for index in range(1, depth + 1)}
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": dense(wide, num_classes)}
    return nn.Sequential(layers)
