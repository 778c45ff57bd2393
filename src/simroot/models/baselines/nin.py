"""Network in Network (Lin, Chen and Yan), as Deep Roots and Deep SimNets use it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from simroot.errors import ConfigError
from simroot.layers import NormalisedConv2d
from simroot.layers.root import Groups, conv2d_in_groups
from simroot.models.building import ImageSize, require_group_list, require_image_size, require_positive
from simroot.models.registry import register, register_roots
from simroot.roots.schedules import require_groups

_LAYERS = ("conv1a", "conv1b", "conv1c", "conv2a", "conv2b", "conv2c", "conv3a", "conv3b", "conv3c")
_KERNEL_SIZES = dict(zip(_LAYERS, (5, 1, 1, 5, 1, 1, 3, 1, 1), strict=True))


@register(parameters=966_986, macs=222_486_528)
def nin(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    groups: Sequence[Groups] = (1, 1),
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> nn.Module:
    """Network in Network for CIFAR-10 (Deep Roots, section 4.1 and tables 1 and 2): 192 channels, nine convolutions.

    Deep Roots trains it with batch normalisation and He's initialisation and without dropout; the original network
    has dropout of 0.5 and no normalisation.

    Overrides:
        image_size: at least 4.
        groups: filter groups of conv2a and conv3a: a number each, or relative sizes of unequal groups.
        batch_norm: normalise the convolutions' outputs, except the class scores, while training; it folds away.
        dropout: share of values dropped after each of the two pools.

    Raises:
        ConfigError: if the groups do not divide a layer's channels, or another argument is out of range.
    """
    widths = (192, 160, 96, 192, 192, 192, 192, 192)
    return _build("nin", num_classes, in_channels, widths, image_size, groups, batch_norm, dropout)


@register(parameters=4_840, macs=1_734_400, recipe={"learning_rate": 0.2})
def nin_compact(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: int = 10,
    batch_norm: bool = True,
) -> nn.Module:
    """Network in Network with 10 channels in every layer and no dropout (Deep SimNets, section 6.4).

    Batch normalisation, which the original network does not have, folds away.
    """
    require_positive("nin_compact", channels=channels)
    return _build("nin_compact", num_classes, in_channels, (channels,) * 8, image_size, (1, 1), batch_norm, 0.0)


def _build(
    name: str,
    num_classes: int,
    in_channels: int,
    widths: Sequence[int],
    image_size: ImageSize,
    groups: Sequence[Groups],
    batch_norm: bool,
    dropout: float,
) -> nn.Module:
    """Three blocks of a spatial and two 1x1 convolutions, pooled to a half, a quarter and to one vector of scores."""
    require_image_size(name, image_size, smallest=4)
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout of {name} is {dropout!r}; expected a number from 0 to below 1")
    channels = (in_channels, *widths, num_classes)
    layer_groups = _layer_groups(name, groups, channels)
    pools = {"conv1c": nn.MaxPool2d(3, 2, ceil_mode=True), "conv2c": nn.AvgPool2d(3, 2, ceil_mode=True)}
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for (layer, kernel_size), (inputs, outputs) in zip(_KERNEL_SIZES.items(), pairwise(channels), strict=True):
        last = layer == "conv3c"
        modules[layer] = conv2d_in_groups(
            NormalisedConv2d,
            inputs,
            outputs,
            kernel_size,
            padding=kernel_size // 2,
            groups=layer_groups.get(layer, 1),
            norm=batch_norm and not last,
        )
        if not last:
            modules[layer.replace("conv", "relu")] = nn.ReLU()
        if layer in pools:
            modules[f"pool{layer[4]}"] = pools[layer]
            modules[f"dropout{layer[4]}"] = nn.Dropout(dropout)
    modules["pool3"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    return nn.Sequential(modules)


def _layer_groups(name: str, groups: Sequence[Groups], channels: Sequence[int]) -> dict[str, Groups]:
    grouped = ("conv2a", "conv3a")
    require_group_list(name, groups, len(grouped), " and ".join(grouped))
    for layer, number in zip(grouped, groups, strict=True):
        index = _LAYERS.index(layer)
        require_groups(name, layer, number, channels[index], channels[index + 1])
    return dict(zip(grouped, groups, strict=True))


# Degree -> parameters and multiply-accumulates.
_ROOTS = {
    2: (736_586, 163_504_128),
    4: (455_498, 123_396_096),
    8: (314_954, 103_342_080),
    16: (244_682, 93_315_072),
}
_COLUMNS = {
    2: (570_698, 152_887_296),
    4: (372_554, 118_087_680),
    8: (273_482, 100_687_872),
    16: (223_946, 91_987_968),
}
_TREES = {
    2: (487_754, 147_578_880),
    4: (331_082, 115_433_472),
    8: (252_746, 99_360_768),
    16: (213_578, 91_324_416),
}

register_roots("nin", nin, _ROOTS, stages=2, where="tables 1 and 2")
register_roots("nin", nin, _COLUMNS, stages=2, where="section 4.2", topology="column")
register_roots("nin", nin, _TREES, stages=2, where="section 4.2", topology="tree")
