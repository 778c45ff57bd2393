"""The ConvNet that everyone writes."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.models.baselines.stages import checked_widths, pooled_classifier, stem
from simroot.models.building import ImageSize
from simroot.models.registry import register


@register(parameters=72_730, macs=9_880_192, recipe={"learning_rate": 0.2})
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

    Overrides:
        image_size: at least 4.
        channels: channels of the first stage; the others have two and four times as many (rounded).
        depth: convolutions in each stage.
    """
    widths, plan = checked_widths("convnet_plain", image_size, channels, drawn_for, depth=depth)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, width in enumerate(widths, start=1):
        for index in range(1, depth + 1):
            conv = ScaledConv2d(in_channels, width, 3) if modules else stem(in_channels, width, plan)
            modules[f"conv{stage}_{index}"] = conv
            modules[f"relu{stage}_{index}"] = nn.ReLU()
            in_channels = width
        if stage < plan.grids:
            modules[f"pool{stage}"] = nn.MaxPool2d(2)
    return nn.Sequential(modules | pooled_classifier(in_channels, num_classes))
