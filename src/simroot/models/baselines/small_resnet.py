"""He et al.'s residual networks for small images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from simroot.layers.blocks.basic_block import BasicBlock
from simroot.models.baselines.stages import checked_widths, pooled_classifier, stage_blocks, stem
from simroot.models.building import ImageSize
from simroot.models.registry import register


@register(parameters=269_034, macs=40_551_040, recipe={"learning_rate": 0.2})
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

    Overrides:
        image_size: at least 4.
        channels: channels of the first stage; the others have two and four times as many (rounded).
        depth: blocks in each stage; the network has ``6 depth + 2`` layers, so that 1 gives ResNet-8.
    """
    widths, plan = checked_widths("resnet20", image_size, channels, drawn_for, depth=depth)
    body = stage_blocks(widths, depth, lambda inputs, outputs, stride, _: BasicBlock(inputs, outputs, stride))
    first = {"stem": stem(in_channels, widths[0], plan), "relu": nn.ReLU()}
    return nn.Sequential(OrderedDict({**first, **body, **pooled_classifier(widths[-1], num_classes)}))
