"""A residual SimNet: root modules of spatial filters in groups and 1x1 convolutions, then similarities."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from simroot.errors import ConfigError, is_whole
from simroot.layers import MexPool2d, NormalisedConv2d
from simroot.layers.blocks.root_module import ResidualRootModule2d
from simroot.layers.norm import PatchWhitening
from simroot.models.baselines.relu_twin import relu_twin
from simroot.models.baselines.stages import pooled_classifier, rounded_channels
from simroot.models.building import ImageSize, require_image_size
from simroot.models.image_sizes import STAGES, drawn
from simroot.models.registry import register
from simroot.models.simnets.architecture import LEARNED, SimNet, Stage

_NAME = "simnet_residual"
# Channels of the stages and of the first convolution in those of the first stage; all in multiples that kernels like.
_GROWTH, _STEM, _MULTIPLE = (1, 5 / 3, 7 / 3), 2 / 3, 4
# How far the few first filters see white patches, and the offsets' share of the rate: as simnet_mobile's.
_WHITENING, _OFFSETS_RATE = 0.05, 1 / 9
_RECIPE = {"learning_rate": 0.2, "weight_decay": 5e-4}

# A number for all stages, or one for each.
PerStage = int | Sequence[int]


@register(parameters=19_710, macs=3_088_384, recipe={**_RECIPE, "clip_norm": 5.0})
def simnet_residual(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float | Sequence[int] = 24,
    depth: PerStage = (1, 3, 3),
    kernel_size: PerStage = (3, 3, 3),
    group_width: PerStage = (1, 1, 1),
    templates: float = 0.5,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
    drawn_for: int | None = None,
) -> nn.Module:
    """SimNet of one whitened l_p similarity, MEX and global MEX behind residual root modules.

    A root module (Deep Roots, section 3) has as many spatial filters as channels, in groups, and a 1x1 convolution that
    mixes them, with batch normalisation and ReLU. It is added to its input where the channels stay. With groups of one
    channel it is a depthwise separable convolution; where the groups hold more channels with depth, there are fewer for
    their number, which is Deep Roots' hypothesis. Between the grids is maximum pooling. Behind the modules stands the
    head of ``simnet_mobile``: a whitened similarity (Deep SimNets, section 4.2), MEX classification and global MEX. The
    first convolution has two thirds of the first stage's channels.

    Overrides:
        image_size: at least 4.
        channels: channels of the first stage; the others have 5/3 and 7/3 times as many, rounded to multiples of four.
            Or a number for each stage.
        depth: root modules; a number for all stages, or one for each.
        kernel_size: of the spatial filters, odd; a number, or one for each stage.
        group_width: channels in each group of the spatial filters; a number, or one for each stage.
        templates: templates as a multiple of the last stage's channels; 0 for a ConvNet's head, average pooling and a
            linear layer.
        order: p of the similarity; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    require_image_size(_NAME, image_size, smallest=4)
    plan = drawn(_NAME, image_size, drawn_for)
    if isinstance(channels, Sequence):
        widths = _each("channels", channels, plan.grids)
    else:
        widths = rounded_channels(_NAME, channels, (*_GROWTH, *_GROWTH[-1:])[: plan.grids], _MULTIPLE)
    depths, kernels = _each("depth", depth, plan.grids), _each("kernel_size", kernel_size, plan.grids)
    groups = _each("group_width", group_width, plan.grids)
    width = _MULTIPLE * max(1, round(_STEM * widths[0] / _MULTIPLE))
    stem = NormalisedConv2d(in_channels, width, plan.kernel_size, stride=plan.stride, padding=plan.kernel_size // 2)
    stem.patches = PatchWhitening(in_channels, plan.kernel_size, eps=_WHITENING)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=stem, relu=nn.ReLU())
    for stage, (outputs, modules, kernel, group) in enumerate(
        zip(widths, depths, kernels, groups, strict=True), start=1
    ):
        if stage > 1:
            layers[f"pool{stage - 1}"] = MexPool2d(2, beta=math.inf)
        for index in range(1, modules + 1):
            _require_fitting(kernel, group, width)
            layers[f"block{stage}_{index}"] = ResidualRootModule2d(width, outputs, kernel, group_width=group)
            width = outputs
    return nn.Sequential(layers | _head(templates, width, num_classes, order, learn))


@register(parameters=18_962, macs=3_070_744, recipe=_RECIPE)
def simnet_residual_twin(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float | Sequence[int] = 24,
    depth: PerStage = (1, 3, 3),
    kernel_size: PerStage = (3, 3, 3),
    group_width: PerStage = (1, 1, 1),
    templates: float = 0.5,
    drawn_for: int | None = None,
) -> nn.Module:
    """ReLU twin of simnet_residual: the ConvNet of its shape (see relu_twin); all below the head is the same."""
    return relu_twin(
        _NAME,
        num_classes,
        in_channels,
        image_size=image_size,
        channels=channels,
        depth=depth,
        kernel_size=kernel_size,
        group_width=group_width,
        templates=templates,
        drawn_for=drawn_for,
    )


def _head(
    templates: float, channels: int, num_classes: int, order: float, learn: Sequence[str]
) -> dict[str, nn.Module]:
    if not 0 <= templates < math.inf:
        raise ConfigError(f"templates of {_NAME} is {templates!r}; expected a number of at least 0")
    if not templates:
        return pooled_classifier(channels, num_classes)
    compared = max(1, round(templates * channels))
    simnet = SimNet(
        (Stage(compared, compared, 1),),
        num_classes,
        channels,
        order=order,
        learn=learn,
        features=True,
        offsets_rate=_OFFSETS_RATE,
    )
    return {"simnet": simnet}


def _each(name: str, value: PerStage, stages: int) -> tuple[int, ...]:
    """A whole number for each stage; a fourth is as the third."""
    values: tuple[Any, ...] = tuple(value) if isinstance(value, Sequence) else (value,) * STAGES
    if len(values) not in (STAGES, stages) or not all(is_whole(each, 1) for each in values):
        raise ConfigError(
            f"{name} of {_NAME} is {value!r}; expected a whole number of at least 1, or one for each of {STAGES} stages"
        )
    return (*values, *values[-1:] * (stages - len(values)))


def _require_fitting(kernel_size: int, group_width: int, channels: int) -> None:
    if kernel_size % 2 == 0:
        raise ConfigError(f"kernel_size of {_NAME} is {kernel_size}; expected an odd number")
    if channels % group_width:
        raise ConfigError(f"group_width of {_NAME} is {group_width}; it does not divide {channels} channels")
