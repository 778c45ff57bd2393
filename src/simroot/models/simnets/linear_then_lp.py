"""SimNets of both forms of similarity (section 2): linear ones near the image, l_p ones before the classification."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from simroot.layers import MexPool2d, NormalisedConv2d
from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.norm import PatchWhitening
from simroot.models.baselines.mobilenet import MOBILE_V3, mobile_blocks
from simroot.models.baselines.relu_twin import relu_twin
from simroot.models.baselines.stages import checked_widths, stage_channels
from simroot.models.building import ImageSize, require_image_size, require_positive
from simroot.models.image_sizes import STAGES, Plan, drawn
from simroot.models.registry import register
from simroot.models.simnets.architecture import LEARNED, SimNet, Stage
from simroot.roots.schedules import root_schedule

_RECIPE = {"learning_rate": 0.2, "clip_norm": 5.0}
_NAME = "simnet_mixed"

# simnet_mobile: templates for each channel of its last block; how far its few first filters see white patches; how many
# times fewer units than channels its squeeze-excitation has, which at MobileNetV3's four times would hold a third of
# all parameters; and the offsets' share of the learning rate. The rate is high for the sake of the blocks: with a ninth
# of it log alpha moves at the rate itself.
_TEMPLATES = 1.5
_WHITENING = 0.05
_SQUEEZE = 16
_OFFSETS_RATE = 1 / 9


@register(parameters=55_986, macs=8_232_192, recipe=_RECIPE)
def simnet_mixed(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 16,
    depth: int = 2,
    degree: int = 1,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
    drawn_for: int | None = None,
) -> nn.Module:
    """SimNet of linear similarities, then one l_p similarity, MEX and global MEX (Deep SimNets, sections 2 and 4).

    Linear similarities are 3x3 convolutions, and the MEX of theirs and zero at beta = inf is a ReLU: so far it is the
    ConvNet that SimNets generalise. The last layer on the smallest grid is a whitened l_p similarity (section 4.2) with
    half as many templates as that grid has channels, whose convolution does not pad. While it trains, the responses of
    the convolutions are normalised over the batch and the channels decorrelated before the last of them; all of it
    folds away. Between the grids is maximum, then average pooling, as in the three layer SimNet (section 6.4). With a
    root degree the convolutions behind the first have filter groups (Deep Roots, section 3): ``degree`` of them on all
    grids but the last, which has half as many. From images of 48 pixels on the first convolution strides and there is
    a fourth grid, with as many channels as the third.

    Overrides:
        image_size: at least 12.
        channels: channels of the first grid's layers; the others have two and four times as many, rounded to multiples
            of ``degree``.
        depth: layers on each grid.
        degree: filter groups, a power of two.
        order: p of the similarity; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    require_image_size(_NAME, image_size, smallest=12)
    require_positive(_NAME, depth=depth, degree=degree)
    later, last = root_schedule(degree, STAGES - 1)
    plan = drawn(_NAME, image_size, drawn_for, last=3)
    widths = stage_channels(_NAME, channels, degree, plan.grids)
    groups_of_grids = (*(later,) * (plan.grids - 1), last)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = in_channels
    for grid, (outputs, groups) in enumerate(zip(widths, groups_of_grids, strict=True), start=1):
        for index in range(1, depth + 1 if grid < plan.grids else depth):
            first = not layers
            layers[f"conv{grid}_{index}"] = (
                _stem(width, outputs, plan) if first else ScaledConv2d(width, outputs, 3, groups=groups)
            )
            layers[f"relu{grid}_{index}"] = nn.ReLU()
            width = outputs
        if grid < plan.grids:
            layers[f"pool{grid}"] = MexPool2d(2, beta=math.inf if grid == 1 else 0.0)
    templates = widths[-1] // 2
    stage = Stage(templates, templates, 3, groups=last)
    layers["simnet"] = SimNet((stage,), num_classes, width, order=order, learn=learn, features=True)
    return nn.Sequential(layers)


def _stem(in_channels: int, out_channels: int, plan: Plan) -> NormalisedConv2d:
    size = plan.kernel_size
    return NormalisedConv2d(in_channels, out_channels, size, stride=plan.stride, padding=size // 2, whiten=True)


@register(parameters=55_002, macs=8_220_992, recipe={"learning_rate": 0.2})
def simnet_mixed_twin(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 16,
    depth: int = 2,
    degree: int = 1,
    drawn_for: int | None = None,
) -> nn.Module:
    """ReLU twin of simnet_mixed: the ConvNet of its shape (see relu_twin); the layers below the last are the same."""
    return relu_twin(
        _NAME,
        num_classes,
        in_channels,
        image_size=image_size,
        channels=channels,
        depth=depth,
        degree=degree,
        drawn_for=drawn_for,
    )


@register(parameters=28_916, macs=3_716_224, recipe={"learning_rate": 0.4, "weight_decay": 5e-4, "clip_norm": 5.0})
def simnet_mobile(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float = 8,
    depth: int = 2,
    expansion: int = 4,
    groups: int = 4,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
    drawn_for: int | None = None,
) -> nn.Module:
    """SimNet of one whitened l_p similarity, MEX and global MEX behind root modules of MobileNetV3's blocks.

    The blocks take the place of the first linear similarities of ``simnet_mixed``. They are mobilenet_v3_compact's but
    for two things, which leave parameters for more channels: their expansions have filter groups, so that each block is
    a root module (Deep Roots, section 3), with ``groups`` of them, then one for each channel, and a projection that
    combines all; and squeeze-excitation has a quarter of the units. What MobileNetV3 has behind them, a 1x1
    convolution, hardswish, average pooling and a linear layer, becomes a whitened similarity (Deep SimNets, section
    4.2) with 1.5 times as many templates as the last block has channels, MEX classification and global MEX: about as
    many parameters as MobileNetV3 has there. While it trains, the channels before the similarity are decorrelated,
    which folds away.

    Overrides:
        image_size: at least 4.
        channels: channels of the stem and the first stage; the others have two and four times as many, rounded to
            multiples of ``groups``.
        depth: blocks in each stage.
        expansion: channels of the depthwise convolutions as a multiple of the block's input.
        groups: filter groups of the expansions.
        order: p of the similarity; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    sizes = {"groups": groups, "depth": depth, "expansion": expansion}
    widths, plan = checked_widths("simnet_mobile", image_size, channels, drawn_for, **sizes)
    stem = _stem(in_channels, widths[0], plan)
    stem.patches = PatchWhitening(in_channels, plan.kernel_size, eps=_WHITENING)
    templates = round(_TEMPLATES * widths[-1])
    simnet = SimNet(
        (Stage(templates, templates, 1),),
        num_classes,
        widths[-1],
        order=order,
        learn=learn,
        features=True,
        offsets_rate=_OFFSETS_RATE,
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=stem, activation=nn.Hardswish())
    stages = tuple(replace(stage, squeeze=stage.squeeze and _SQUEEZE, groups=groups) for stage in MOBILE_V3)
    layers |= mobile_blocks(widths, depth, expansion, stages)
    layers["simnet"] = simnet
    return nn.Sequential(layers)
