"""What networks of stages have in common, for images of 32 pixels and more.

There are three stages of c, 2c and 4c channels, on grids of the full, half and quarter image, then global average
pooling and a linear classifier. From 48 pixels on the first convolution strides and there is a fourth stage
(``simroot.models.image_sizes``). Batch normalisation folds away, its learned scale too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from simroot.errors import ConfigError
from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.models.building import ImageSize, dense, require_image_size, require_positive
from simroot.models.image_sizes import STAGES, Plan, drawn

# Input channels, output channels, stride, stage -> block.
Block = Callable[[int, int, int, int], nn.Module]


def stage_channels(model: str, channels: float, multiple: int = 1, grids: int = STAGES) -> tuple[int, ...]:
    """Channels of the stages: c, 2c, 4c and 4c again for all others, rounded to multiples of a number.

    Raises:
        ConfigError: if ``channels`` is no number, or leaves a stage without channels.
    """
    return rounded_channels(model, channels, [min(2**stage, 4) for stage in range(grids)], multiple)


def rounded_channels(model: str, channels: float, growth: Sequence[float], multiple: int) -> tuple[int, ...]:
    """Channels of stages that have ``growth`` times ``channels``, rounded as for ``stage_channels``; its errors."""
    if isinstance(channels, bool) or not isinstance(channels, int | float) or not 0 < channels < float("inf"):
        raise ConfigError(f"channels of {model} is {channels!r}; expected a number above 0")
    widths = tuple(round(channels * share / multiple) * multiple for share in growth)
    if min(widths) < 1:
        raise ConfigError(f"channels of {model} is {channels!r}, none in the first stage; expected more")
    return widths


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


def stem(in_channels: int, out_channels: int, plan: Plan) -> ScaledConv2d:
    """The first convolution."""
    return ScaledConv2d(in_channels, out_channels, plan.kernel_size, stride=plan.stride)


def stage_blocks(widths: tuple[int, ...], depth: int, block: Block) -> OrderedDict[str, nn.Module]:
    """Stages of blocks behind a stem of ``widths[0]`` channels; all but the first halve the size."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (before, width) in enumerate(pairwise((widths[0], *widths))):
        for index in range(depth):
            inputs, stride = (before, min(stage, 1) + 1) if index == 0 else (width, 1)
            modules[f"block{stage + 1}_{index + 1}"] = block(inputs, width, stride, stage)
    return modules


def pooled_classifier(channels: int, num_classes: int) -> dict[str, nn.Module]:
    """What ends the network: global average pooling and a linear classifier."""
    return {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": dense(channels, num_classes)}
