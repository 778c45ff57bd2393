"""Residual networks for ImageNet: ResNet-50 and the pre-activation ResNet-200 of Deep Roots, section 4.3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers.root import Groups, conv2d_in_groups, he_composite_
from simroot.models.building import ImageSize, require_group_list, require_image_size
from simroot.models.registry import register, register_roots
from simroot.roots.schedules import require_groups

StrideOn = Literal["1x1", "3x3"]
_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each followed by batch normalisation, added to the input (He et al. 2015).

    Module names are torchvision's. (N, C, H, W) -> (N, 4 width, H / stride, W / stride).

    Args:
        in_channels: C.
        width: channels of the 3x3 convolution.
        stride: step of the block.
        groups: filter groups of the 3x3 convolution.
        stride_on: the convolution that takes the step: the first 1x1, as in the original, or the 3x3.
    """

    def __init__(self, in_channels: int, width: int, stride: int, groups: Groups, stride_on: StrideOn) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        out_channels = _EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, second, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class PreActivationBottleneck(nn.Module):
    """The bottleneck with normalisation and ReLU before each convolution (He et al. 2016).

    (N, C, H, W) -> (N, 4 width, H / stride, W / stride). Where channels or size change, the shortcut is a 1x1
    convolution of the activated input.

    Args:
        in_channels: C.
        width: channels of the 3x3 convolution.
        stride: step of the block, taken by the 3x3 convolution.
        groups: filter groups of the 3x3 convolution.
        activated: the input is activated already, as behind the network's first convolution.
    """

    def __init__(self, in_channels: int, width: int, stride: int, groups: Groups, activated: bool) -> None:
        super().__init__()
        out_channels = _EXPANSION * width
        self.bn1 = nn.Identity() if activated else nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, stride, groups)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_channels != out_channels:
            self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = x if isinstance(self.bn1, nn.Identity) else self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(active)
        active = self.relu(self.bn2(self.conv1(active)))
        active = self.relu(self.bn3(self.conv2(active)))
        return self.conv3(active) + shortcut


class ResNet(nn.Module):
    """A 7x7 convolution and four stages of blocks; (N, C, H, W) -> (N, classes).

    Args:
        stages: the four stages.
        in_channels: channels of the images.
        num_classes: number of class scores.
        norm_last: normalise and activate behind the last stage, as pre-activation blocks need.
    """

    def __init__(self, stages: Sequence[nn.Module], in_channels: int, num_classes: int, norm_last: bool) -> None:
        super().__init__()
        features = 8 * 64 * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.norm = nn.Sequential(nn.BatchNorm2d(features), nn.ReLU(inplace=True)) if norm_last else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                he_composite_(module)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(self.norm(x)).flatten(1))


def _conv3x3(width: int, stride: int, groups: Groups) -> nn.Module:
    return conv2d_in_groups(nn.Conv2d, width, width, 3, stride=stride, padding=1, bias=False, groups=groups)


# Input channels, width, stride, groups, and whether it is the network's first -> block.
Block = Callable[[int, int, int, Groups, bool], nn.Module]


def _stages(name: str, groups: Sequence[Groups], blocks: Sequence[int], block: Block) -> list[nn.Module]:
    """Stages of 64, 128, 256 and 512 filters."""
    require_group_list(name, groups, len(blocks), "the stages")
    stages: list[nn.Module] = []
    channels = 64
    for stage, (number, stage_groups) in enumerate(zip(blocks, groups, strict=True)):
        width = 64 * 2**stage
        require_groups(name, f"the 3x3 convolutions of layer{stage + 1}", stage_groups, width, width)
        stride = 1 if stage == 0 else 2
        modules = []
        for index in range(number):
            modules.append(block(channels, width, stride if index == 0 else 1, stage_groups, stage == index == 0))
            channels = _EXPANSION * width
        stages.append(nn.Sequential(*modules))
    return stages


@register(parameters=25_557_032, macs=3_857_973_248)
def resnet50(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 224,
    groups: Sequence[Groups] = (1, 1, 1, 1),
    stride_on: StrideOn = "1x1",
) -> nn.Module:
    """ResNet-50 (Deep Roots, section 4.3.1, tables 3 and 4): 16 bottlenecks in four stages.

    With ``stride_on="3x3"`` it is torchvision's, whose state dicts it loads.

    Overrides:
        image_size: at least 32.
        groups: filter groups of the 3x3 convolutions of each stage: a number, or relative sizes of unequal groups.
        stride_on: the convolution of a block that halves the size, "1x1" (the first) as in the original or "3x3".

    Raises:
        ConfigError: if the groups do not divide a stage's channels, or another argument is out of range.
    """
    require_image_size("resnet50", image_size, smallest=32)
    if stride_on not in get_args(StrideOn):
        raise ConfigError(f"stride_on of resnet50 is {stride_on!r}; expected '1x1' or '3x3'")
    stages = _stages(
        "resnet50",
        groups,
        (3, 4, 6, 3),
        lambda channels, width, stride, g, first: Bottleneck(channels, width, stride, g, stride_on),
    )
    return ResNet(stages, in_channels, num_classes, norm_last=False)


@register(parameters=64_666_152, macs=15_007_481_856)
def resnet200(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 224,
    groups: Sequence[Groups] = (1, 1, 1, 1),
) -> nn.Module:
    """Pre-activation ResNet-200 (Deep Roots, section 4.3.2, table 5): 66 bottlenecks, 3, 24, 36 and 3 a stage.

    Overrides:
        image_size: at least 32.
        groups: filter groups of the 3x3 convolutions of each stage: a number, or relative sizes of unequal groups.

    Raises:
        ConfigError: if the groups do not divide a stage's channels, or the images are too small.
    """
    require_image_size("resnet200", image_size, smallest=32)
    stages = _stages("resnet200", groups, (3, 24, 36, 3), PreActivationBottleneck)
    return ResNet(stages, in_channels, num_classes, norm_last=True)


_RESNET50 = {
    2: (25_501_736, 3_684_564_992),
    4: (25_179_176, 3_366_649_856),
    8: (23_248_424, 2_860_875_776),
    16: (18_744_104, 2_434_580_480),
    32: (16_491_944, 2_221_432_832),
    64: (15_365_864, 2_114_859_008),
}
_RESNET200 = {
    2: (64_610_856, 14_834_073_600),
    4: (62_813_736, 13_360_103_424),
    8: (51_298_344, 10_542_219_264),
    16: (42_001_704, 8_959_868_928),
    32: (37_353_384, 8_168_693_760),
    64: (35_029_224, 7_773_106_176),
}

register_roots("resnet50", resnet50, _RESNET50, stages=4, where="tables 3 and 4")
register_roots("resnet200", resnet200, _RESNET200, stages=4, where="table 5")
