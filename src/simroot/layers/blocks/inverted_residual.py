"""The block of MobileNetV2 and V3, and what such blocks have in common within a stage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.blocks.squeeze_excitation import SqueezeExcitation


@dataclass(frozen=True)
class MobileStage:
    """What the inverted residuals of a stage have in common.

    Args:
        kernel_size: of the depthwise convolution.
        activation: behind the expansion and behind the depthwise convolution.
        squeeze: how many times fewer units the squeeze-excitation has than channels; None for no squeeze-excitation.
        groups: filter groups of the expansion.
    """

    kernel_size: int
    activation: Callable[[], nn.Module]
    squeeze: int | None = None
    groups: int = 1


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection (Sandler et al., section 3).

    (N, C, H, W) -> (N, D, H / stride, W / stride), added to the input where both have one shape. If the
    expansion has filter groups, the block is a root module (Deep Roots, section 3): they, then groups of one channel,
    and a projection that combines all.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, stage: MobileStage) -> None:
        super().__init__()
        hidden = expansion * in_channels
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            expand=ScaledConv2d(in_channels, hidden, 1, groups=stage.groups),
            activation1=stage.activation(),
            depthwise=ScaledConv2d(hidden, hidden, stage.kernel_size, stride=stride, groups=hidden),
            activation2=stage.activation(),
        )
        if stage.squeeze is not None:
            layers["squeeze"] = SqueezeExcitation(hidden, stage.squeeze)
        layers["project"] = ScaledConv2d(hidden, out_channels, 1)
        self.layers = nn.Sequential(layers)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.adds else y
