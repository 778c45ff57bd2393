"""MobileNetV2 and V3 in small."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

from simroot.layers.blocks.inverted_residual import InvertedResidual, MobileStage
from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.models.baselines.stages import checked_widths, pooled_classifier, stage_blocks, stem
from simroot.models.building import ImageSize
from simroot.models.image_sizes import STAGES, Plan
from simroot.models.registry import register

# Depthwise convolutions learn best with a high rate.
_RECIPE = {"learning_rate": 0.4, "weight_decay": 5e-4}

_LATER = MobileStage(5, nn.Hardswish, squeeze=4)
MOBILE_V3 = (MobileStage(3, nn.ReLU), _LATER, _LATER)


def mobile_blocks(
    widths: tuple[int, ...], depth: int, expansion: int, stages: tuple[MobileStage, ...]
) -> OrderedDict[str, nn.Module]:
    """Stages of ``depth`` inverted residuals, behind a stem of ``widths[0]`` channels; a fourth is as the third."""

    def block(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        return InvertedResidual(inputs, outputs, stride, expansion, stages[min(stage, len(stages) - 1)])

    return stage_blocks(widths, depth, block)


@register(parameters=34_314, macs=6_192_384, recipe=_RECIPE)
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

    Overrides:
        image_size: at least 4.
        channels: channels of the stem and the first stage; the others have two and four times as many (rounded).
        depth: blocks in each stage.
        expansion: channels of the depthwise convolutions as a multiple of the block's input.
    """
    widths, plan = checked_widths(
        "mobilenet_v2_compact", image_size, channels, drawn_for, depth=depth, expansion=expansion
    )
    stages = (MobileStage(3, nn.ReLU6),) * STAGES
    return _mobile(in_channels, num_classes, widths, plan, depth, expansion, stages, 4 * widths[-1], nn.ReLU6)


@register(parameters=42_594, macs=4_892_416, recipe=_RECIPE)
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

    Overrides:
        image_size: at least 4.
        channels: channels of the stem and the first stage; the others have two and four times as many (rounded).
        depth: blocks in each stage.
        expansion: channels of the depthwise convolutions as a multiple of the block's input.
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
    first = {"stem": stem(in_channels, widths[0], plan), "activation": activation()}
    last: dict[str, Any] = {"last": ScaledConv2d(widths[-1], features, 1), "last_activation": activation()}
    body = mobile_blocks(widths, depth, expansion, stages)
    return nn.Sequential(OrderedDict({**first, **body, **last, **pooled_classifier(features, num_classes)}))
