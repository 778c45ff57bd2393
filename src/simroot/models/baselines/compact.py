"""Convolutional networks that a user with a small budget would take today, for images of 32 pixels and more.

Each family has three stages of c, 2c and 4c channels, on grids of the full, half and quarter image, and ends in global
average pooling and a linear classifier. From 48 pixels on the first convolution strides and there is a fourth stage
(``simroot.models.image_sizes``). Batch normalisation folds away, its learned scale too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.layers import NormalisedConv2d
from simroot.models.building import ImageSize, dense, require_image_size, require_positive
from simroot.models.image_sizes import STAGES, Plan, drawn
from simroot.models.registry import register

# Batch normalisation bears a high rate; depthwise convolutions learn best with a higher one.
_RECIPE, _MOBILE = {"learning_rate": 0.2}, {"learning_rate": 0.4}


def stage_channels(model: str, channels: float, multiple: int = 1, grids: int = STAGES) -> tuple[int, ...]:
    """Channels of the stages: c, 2c, 4c and 4c again for all others, rounded to multiples of a number.

    Raises:
        ConfigError: if ``channels`` is no number, or leaves a stage without channels.
    """
    if isinstance(channels, bool) or not isinstance(channels, int | float) or not 0 < channels < float("inf"):
        raise ConfigError(f"channels of {model} is {channels!r}; expected a number above 0")
    widths = tuple(round(channels * min(2**stage, 4) / multiple) * multiple for stage in range(grids))
    if widths[0] < 1:
        raise ConfigError(f"channels of {model} is {channels!r}, none in the first stage; expected more")
    return widths


class ScaledConv2d(NormalisedConv2d):
    """Convolution and batch normalisation as usual: ``y = g (w * x - mean) / sqrt(var + eps) + b``, learned g and b.

    (N, C, H, W) -> (N, D, H', W'). The odd ``kernel_size`` pads so that only the stride changes the size. ``folded``
    gives the plain convolution with a bias that it is after training.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups)
        self.gain = nn.Parameter(torch.ones(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y, norm = self._conv_forward(x, self.filters(), None), self.norm
        assert norm is not None
        return F.batch_norm(y, norm.mean, norm.var, self.gain, self.bias, norm.training, norm.momentum, norm.eps)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """The plain convolution with the same output in evaluation."""
        conv = super().folded()
        assert conv.bias is not None
        assert self.bias is not None
        conv.weight *= self.gain[:, None, None, None]
        conv.bias.copy_(self.gain * (conv.bias - self.bias) + self.bias)
        return conv


class BasicBlock(nn.Module):
    """Two 3x3 convolutions added to the input (He et al. 2015); (N, C, H, W) -> (N, D, H / stride, W / stride).

    The shortcut has no parameters: where the size halves it takes every other pixel, and new channels are zeros
    (their option A, which they use for CIFAR-10).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, out_channels - in_channels
        self.conv1 = ScaledConv2d(in_channels, out_channels, 3, stride=stride)
        self.conv2 = ScaledConv2d(out_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(shortcut + self.conv2(F.relu(self.conv1(x))))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate of all channels' means (Hu et al.); (N, C, H, W) -> (N, C, H, W).

    ``y = x hardsigmoid(W_2 relu(W_1 mean(x)))`` with C / ``squeeze`` units between.
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        squeezed = max(1, channels // squeeze)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            NormalisedConv2d(channels, squeezed, 1, norm=False),
            nn.ReLU(),
            NormalisedConv2d(squeezed, channels, 1, norm=False),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


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


_LATER = MobileStage(5, nn.Hardswish, squeeze=4)
MOBILE_V3 = (MobileStage(3, nn.ReLU), _LATER, _LATER)


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


# Input channels, output channels, stride, stage -> block.
Block = Callable[[int, int, int, int], nn.Module]


def _blocks(widths: tuple[int, ...], depth: int, block: Block) -> OrderedDict[str, nn.Module]:
    """Stages of blocks behind a stem of ``widths[0]`` channels; all but the first halve the size."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (before, width) in enumerate(pairwise((widths[0], *widths))):
        for index in range(depth):
            inputs, stride = (before, min(stage, 1) + 1) if index == 0 else (width, 1)
            modules[f"block{stage + 1}_{index + 1}"] = block(inputs, width, stride, stage)
    return modules


def mobile_blocks(
    widths: tuple[int, ...], depth: int, expansion: int, stages: tuple[MobileStage, ...]
) -> OrderedDict[str, nn.Module]:
    """Stages of ``depth`` inverted residuals, behind a stem of ``widths[0]`` channels; a fourth is as the third."""

    def block(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        return InvertedResidual(inputs, outputs, stride, expansion, stages[min(stage, len(stages) - 1)])

    return _blocks(widths, depth, block)


def _head(channels: int, num_classes: int) -> dict[str, nn.Module]:
    return {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": dense(channels, num_classes)}


def checked_widths(
    name: str, image_size: ImageSize, channels: float, drawn_for: int | None, *, groups: int = 1, **integers: int
) -> tuple[tuple[int, ...], Plan]:
    """Channels of the stages, multiples of ``groups``, and the plan of a network for images of four pixels and more.

    Raises:
        ConfigError: for smaller images, channels of which none are left, or integers below 1.
    """
    require_image_size(name, image_size, smallest=4)
    require_positive(name, groups=groups, **integers)
    found = drawn(name, image_size, drawn_for)
    return stage_channels(name, channels, groups, found.grids), found


def _stem(in_channels: int, out_channels: int, plan: Plan) -> ScaledConv2d:
    return ScaledConv2d(in_channels, out_channels, plan.kernel_size, stride=plan.stride)


@register(parameters=269_034, macs=40_551_040, recipe=_RECIPE)
def resnet20(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 16,
    depth: int = 3,
    drawn_for: int | None = None,
) -> nn.Module:
    """ResNet-20 for CIFAR-10 (He et al. 2015, section 4.2): a 3x3 convolution and nine residual blocks.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        image_size: side of the images, or height and width, at least 4.
        channels: channels of the first stage; the others have two and four times as many (rounded).
        depth: blocks in each stage; the network has ``6 depth + 2`` layers, so that 1 gives ResNet-8.
        drawn_for: image size whose stem and number of stages it has, see ``simroot.models.image_sizes.plan``;
            that of the images if None.
    """
    widths, plan = checked_widths("resnet20", image_size, channels, drawn_for, depth=depth)
    body = _blocks(widths, depth, lambda inputs, outputs, stride, _: BasicBlock(inputs, outputs, stride))
    stem = {"stem": _stem(in_channels, widths[0], plan), "relu": nn.ReLU()}
    return nn.Sequential(OrderedDict({**stem, **body, **_head(widths[-1], num_classes)}))


@register(parameters=34_314, macs=6_192_384, recipe=_MOBILE)
def mobilenet_v2_compact(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 8,
    depth: int = 2,
    expansion: int = 6,
    drawn_for: int | None = None,
) -> nn.Module:
    """MobileNetV2's blocks (Sandler et al. 2018) in three stages for small images, with ReLU6.

    The stem keeps the size, as is usual on 32x32 images; the last 1x1 convolution has four times the last stage's
    channels, as in the original (1280 after 320).

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        image_size: side of the images, or height and width, at least 4.
        channels: channels of the stem and the first stage; the others have two and four times as many (rounded).
        depth: blocks in each stage.
        expansion: channels of the depthwise convolutions as a multiple of the block's input.
        drawn_for: image size whose stem and number of stages it has, see ``simroot.models.image_sizes.plan``;
            that of the images if None.
    """
    widths, plan = checked_widths(
        "mobilenet_v2_compact", image_size, channels, drawn_for, depth=depth, expansion=expansion
    )
    stages = (MobileStage(3, nn.ReLU6),) * STAGES
    return _mobile(in_channels, num_classes, widths, plan, depth, expansion, stages, 4 * widths[-1], nn.ReLU6)


@register(parameters=42_594, macs=4_892_416, recipe=_MOBILE)
def mobilenet_v3_compact(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 8,
    depth: int = 2,
    expansion: int = 4,
    drawn_for: int | None = None,
) -> nn.Module:
    """MobileNetV3's blocks (Howard et al. 2019) in three stages for small images.

    As in V3-Small, the first stage has 3x3 kernels and ReLU, the others 5x5 kernels, squeeze-excitation and hardswish;
    the last 1x1 convolution has ``expansion`` times the last stage's channels. Its dense layer of 1024 units, which
    would outweigh all the rest, is left out.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        image_size: side of the images, or height and width, at least 4.
        channels: channels of the stem and the first stage; the others have two and four times as many (rounded).
        depth: blocks in each stage.
        expansion: channels of the depthwise convolutions as a multiple of the block's input.
        drawn_for: image size whose stem and number of stages it has, see ``simroot.models.image_sizes.plan``;
            that of the images if None.
    """
    widths, plan = checked_widths(
        "mobilenet_v3_compact", image_size, channels, drawn_for, depth=depth, expansion=expansion
    )
    return _mobile(
        in_channels, num_classes, widths, plan, depth, expansion, MOBILE_V3, expansion * widths[-1], nn.Hardswish
    )


def _mobile(
    in_channels: int,
    num_classes: int,
    widths: tuple[int, ...],
    plan: Plan,
    depth: int,
    expansion: int,
    stages: tuple[MobileStage, ...],
    features: int,
    activation: Callable[[], nn.Module],
) -> nn.Module:
    stem = {"stem": _stem(in_channels, widths[0], plan), "activation": activation()}
    last: dict[str, Any] = {"last": ScaledConv2d(widths[-1], features, 1), "last_activation": activation()}
    body = mobile_blocks(widths, depth, expansion, stages)
    return nn.Sequential(OrderedDict({**stem, **body, **last, **_head(features, num_classes)}))


@register(parameters=72_730, macs=9_880_192, recipe=_RECIPE)
def convnet_plain(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 16,
    depth: int = 2,
    drawn_for: int | None = None,
) -> nn.Module:
    """Plain ConvNet: 3x3 convolutions, each with batch normalisation and ReLU, 2x2 max pooling between the stages.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        image_size: side of the images, or height and width, at least 4.
        channels: channels of the first stage; the others have two and four times as many (rounded).
        depth: convolutions in each stage.
        drawn_for: image size whose stem and number of stages it has, see ``simroot.models.image_sizes.plan``;
            that of the images if None.
    """
    widths, plan = checked_widths("convnet_plain", image_size, channels, drawn_for, depth=depth)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, width in enumerate(widths, start=1):
        for index in range(1, depth + 1):
            conv = ScaledConv2d(in_channels, width, 3) if modules else _stem(in_channels, width, plan)
            modules[f"conv{stage}_{index}"] = conv
            modules[f"relu{stage}_{index}"] = nn.ReLU()
            in_channels = width
        if stage < plan.grids:
            modules[f"pool{stage}"] = nn.MaxPool2d(2)
    return nn.Sequential(modules | _head(in_channels, num_classes))
