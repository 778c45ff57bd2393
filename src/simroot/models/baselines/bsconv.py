"""Wide ResNets whose 3x3 convolutions are blueprint separable (Haase and Amthor, CVPR 2020)."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn

from simroot.layers.blocks.preactivation import Embedding, PreActivationBlock, subspace, unconstrained
from simroot.models.baselines.stages import checked_widths
from simroot.models.building import ImageSize, dense
from simroot.models.registry import register

# Channels of the first convolution, whatever the width of the stages (Zagoruyko and Komodakis 2016).
_STEM = 16
_RECIPE = {"learning_rate": 0.2}


def _wide_resnet(
    name: str,
    embedding: Embedding,
    num_classes: int,
    in_channels: int,
    image_size: ImageSize,
    channels: float,
    depth: int,
) -> nn.Module:
    widths, _ = checked_widths(name, image_size, channels, drawn_for=32, depth=depth)
    stem = min(_STEM, widths[0])
    depthwise = nn.Conv2d(stem, stem, 3, padding=1, groups=stem, bias=False)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Sequential(embedding(in_channels, stem) | {"depthwise": depthwise})
    )
    for stage, (before, width) in enumerate(pairwise((stem, *widths)), start=1):
        for index in range(1, depth + 1):
            first = index == 1
            stride = 2 if first and stage > 1 else 1
            layers[f"block{stage}_{index}"] = PreActivationBlock(before if first else width, width, stride, embedding)
    last = widths[-1]
    layers |= {"norm": nn.BatchNorm2d(last), "relu": nn.ReLU()}
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": dense(last, num_classes)}
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            _initialise(module)
    return network


@torch.no_grad()
def _initialise(conv: nn.Conv2d) -> None:
    """Uniform with He's deviation, as the authors' networks start."""
    nn.init.kaiming_uniform_(conv.weight)


@register(parameters=17_866, macs=3_204_736, recipe=_RECIPE)
def bsconv_wrn_s(
    num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32, channels: float = 16, depth: int = 2
) -> nn.Module:
    """WRN-16-1 of subspace blueprint separable convolutions (BSConv-S, Haase and Amthor 2020).

    Every 3x3 convolution becomes two 1x1 convolutions through a quarter of the input channels and a depthwise 3x3
    convolution. The authors' regularisation towards orthonormal first 1x1 filters is left out, and the normalisation of
    the image, which is the data's here.

    Overrides:
        image_size: at least 4.
        channels: channels of the first stage, 16 times the widening factor; the others have two and four times as many.
        depth: blocks in each stage; the network is called WRN-(6 depth + 4).
    """
    return _wide_resnet("bsconv_wrn_s", subspace, num_classes, in_channels, image_size, channels, depth)


@register(parameters=27_082, macs=5_161_600, recipe=_RECIPE)
def bsconv_wrn_u(
    num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32, channels: float = 16, depth: int = 2
) -> nn.Module:
    """WRN-16-1 of unconstrained blueprint separable convolutions (BSConv-U, Haase and Amthor 2020).

    Every 3x3 convolution becomes a 1x1 convolution and a depthwise 3x3 convolution.

    Overrides:
        image_size: at least 4.
        channels: channels of the first stage, 16 times the widening factor; the others have two and four times as many.
        depth: blocks in each stage; the network is called WRN-(6 depth + 4).
    """
    return _wide_resnet("bsconv_wrn_u", unconstrained, num_classes, in_channels, image_size, channels, depth)
