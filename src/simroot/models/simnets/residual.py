"""A residual SimNet of root modules: spatial filters in groups, mixed by 1x1 convolutions of low rank."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from simroot.errors import ConfigError, is_whole
from simroot.layers import NormalisedConv2d
from simroot.layers.blocks.preactivation import PreActivationBlock, low_rank
from simroot.layers.norm import PatchWhitening
from simroot.models.baselines.relu_twin import relu_twin
from simroot.models.baselines.stages import pooled_classifier, stage_blocks, stage_channels
from simroot.models.building import ImageSize, require_image_size, require_positive
from simroot.models.image_sizes import STAGES, drawn
from simroot.models.registry import register
from simroot.models.simnets.architecture import LEARNED, SimNet, Stage

_NAME = "simnet_residual"
# Channels of a stage come in multiples of so many, which kernels like.
_MULTIPLE = 4
# How far the few first filters see white patches, and the offsets' share of the rate: as simnet_mobile's.
_WHITENING, _OFFSETS_RATE = 0.05, 1 / 9

# A number for all stages, or one for each.
PerStage = int | Sequence[int]


@register(parameters=29_958, macs=4_395_008, recipe={"learning_rate": 0.2, "clip_norm": 5.0})
def simnet_residual(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float | Sequence[int] = 16,
    depth: int = 2,
    kernel_size: PerStage = (3, 3, 3),
    group_width: PerStage = (1, 2, 4),
    rank: float = 0.25,
    expansion: int = 1,
    templates: float = 0.5,
    order: float = 2.0,
    learn: Sequence[str] = LEARNED,
    drawn_for: int | None = None,
) -> nn.Module:
    """SimNet of one whitened l_p similarity, MEX and global MEX behind residual root modules of low rank.

    A block has two root modules (Deep Roots, section 3), each of 1x1 convolutions through few channels, which mix all,
    and spatial filters in groups. The groups hold more channels with depth, so that there are fewer for their number:
    Deep Roots' hypothesis in the place of one channel for each filter everywhere. With groups of one channel the blocks
    are those of WRN-16 with BSConv-S, and with a rank of 1, too, they are depthwise separable. Behind them stands the
    head of ``simnet_mobile``: a whitened similarity (Deep SimNets, section 4.2), MEX classification and global MEX.

    Overrides:
        image_size: at least 4.
        channels: channels of the first stage; the others have two and four times as many, rounded to multiples of four.
            Or a number for each stage.
        depth: blocks in each stage.
        kernel_size: of the spatial filters, odd; a number, or one for each stage.
        group_width: channels in each group of the spatial filters; a number, or one for each stage.
        rank: share of the channels that a 1x1 convolution goes through, at least four of them; 1 for all.
        expansion: channels inside a block as a multiple of those behind it.
        templates: templates as a multiple of the last stage's channels; 0 for a ConvNet's head, average pooling and a
            linear layer.
        order: p of the similarity; the first value if it is learned.
        learn: which parameters are learned, of ``LEARNABLE``.
    """
    require_image_size(_NAME, image_size, smallest=4)
    require_positive(_NAME, depth=depth, expansion=expansion)
    plan = drawn(_NAME, image_size, drawn_for)
    if isinstance(channels, Sequence):
        widths = _each("channels", channels, plan.grids)
    else:
        widths = stage_channels(_NAME, channels, _MULTIPLE, plan.grids)
    kernels, groups = _each("kernel_size", kernel_size, plan.grids), _each("group_width", group_width, plan.grids)
    _require_fitting(widths, kernels, groups, rank, templates)
    stem = NormalisedConv2d(in_channels, widths[0], plan.kernel_size, stride=plan.stride, padding=plan.kernel_size // 2)
    stem.patches = PatchWhitening(in_channels, plan.kernel_size, eps=_WHITENING)

    def block(inputs: int, outputs: int, stride: int, stage: int) -> nn.Module:
        return PreActivationBlock(
            inputs,
            outputs,
            stride,
            low_rank(rank),
            kernel_size=kernels[stage],
            group_width=groups[stage],
            expansion=expansion,
        )

    last = widths[-1]
    body = {"stem": stem, **stage_blocks(widths, depth, block), "norm": nn.BatchNorm2d(last), "relu": nn.ReLU()}
    if not templates:
        return nn.Sequential(OrderedDict({**body, **pooled_classifier(last, num_classes)}))
    compared = max(1, round(templates * last))
    simnet = SimNet(
        (Stage(compared, compared, 1),),
        num_classes,
        last,
        order=order,
        learn=learn,
        features=True,
        offsets_rate=_OFFSETS_RATE,
    )
    return nn.Sequential(OrderedDict({**body, "simnet": simnet}))


@register(parameters=28_974, macs=4_374_848, recipe={"learning_rate": 0.2})
def simnet_residual_twin(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: float | Sequence[int] = 16,
    depth: int = 2,
    kernel_size: PerStage = (3, 3, 3),
    group_width: PerStage = (1, 2, 4),
    rank: float = 0.25,
    expansion: int = 1,
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
        rank=rank,
        expansion=expansion,
        templates=templates,
        drawn_for=drawn_for,
    )


def _each(name: str, value: PerStage, stages: int) -> tuple[int, ...]:
    """A whole number for each stage; a fourth is as the third."""
    values: tuple[Any, ...] = tuple(value) if isinstance(value, Sequence) else (value,) * STAGES
    if len(values) not in (STAGES, stages) or not all(is_whole(each, 1) for each in values):
        raise ConfigError(
            f"{name} of {_NAME} is {value!r}; expected a whole number of at least 1, or one for each of {STAGES} stages"
        )
    return (*values, *values[-1:] * (stages - len(values)))


def _require_fitting(
    widths: Sequence[int], kernels: Sequence[int], groups: Sequence[int], rank: float, templates: float
) -> None:
    if even := [size for size in kernels if size % 2 == 0]:
        raise ConfigError(f"kernel_size of {_NAME} is {even[0]}; expected an odd number")
    for width, group in zip(widths, groups, strict=True):
        if width % group:
            raise ConfigError(f"group_width of {_NAME} is {group}; it does not divide {width} channels")
    if not 0 < rank < math.inf:
        raise ConfigError(f"rank of {_NAME} is {rank!r}; expected a number above 0")
    if not 0 <= templates < math.inf:
        raise ConfigError(f"templates of {_NAME} is {templates!r}; expected a number of at least 0")
