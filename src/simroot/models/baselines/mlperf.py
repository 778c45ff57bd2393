"""The image classifier of MLPerf Tiny, on which vendors of small devices report (Banbury et al. 2021)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from simroot.layers import NormalisedConv2d
from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.guarded import subsampled
from simroot.models.baselines.stages import checked_widths
from simroot.models.building import ImageSize, dense
from simroot.models.registry import register


class ProjectedBlock(nn.Module):
    """Two 3x3 convolutions added to the input, which a 1x1 convolution with a bias brings to their shape.

    (N, C, H, W) -> (N, D, H / stride, W / stride).

    Args:
        in_channels: C.
        out_channels: D.
        stride: step of the block.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ScaledConv2d(in_channels, out_channels, 3, stride=stride)
        self.conv2 = ScaledConv2d(out_channels, out_channels, 3)
        self.stride = stride
        self.shortcut: nn.Module | None = None
        if stride > 1 or in_channels != out_channels:
            self.shortcut = NormalisedConv2d(in_channels, out_channels, 1, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.shortcut is None:
            return F.relu(x + y)
        return F.relu(self.shortcut(subsampled(x, self.stride)) + y)


@register(parameters=77_706, macs=12_501_632, recipe={"learning_rate": 0.2})
def mlperf_resnet8(
    num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32, channels: float = 16
) -> nn.Module:
    """ResNet-8 of MLPerf Tiny: a 3x3 convolution and three residual blocks with 1x1 shortcuts.

    Overrides:
        image_size: at least 4.
        channels: channels of the stem and the first block; the others have two and four times as many (rounded).
    """
    (first, second, third), _ = checked_widths("mlperf_resnet8", image_size, channels, drawn_for=32)
    return nn.Sequential(
        OrderedDict(
            stem=ScaledConv2d(in_channels, first, 3),
            relu=nn.ReLU(),
            block1=ProjectedBlock(first, first, 1),
            block2=ProjectedBlock(first, second, 2),
            block3=ProjectedBlock(second, third, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=dense(third, num_classes),
        )
    )
