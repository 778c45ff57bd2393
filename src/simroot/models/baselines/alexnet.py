"""AlexNet (Krizhevsky, Sutskever and Hinton), where filter groups come from: Deep Roots, section 2 and figure 2."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from simroot.errors import ConfigError
from simroot.layers import NormalisedConv2d
from simroot.layers.root import Groups, conv2d_in_groups, he_grouped_
from simroot.models.building import ImageSize, dense, require_group_list, require_image_size
from simroot.models.registry import register, register_variant
from simroot.roots.schedules import require_groups

# Input and output channels, kernel size, stride, padding.
_LAYERS = {
    "conv1": (None, 96, 11, 4, 2),
    "conv2": (96, 256, 5, 1, 2),
    "conv3": (256, 384, 3, 1, 1),
    "conv4": (384, 384, 3, 1, 1),
    "conv5": (384, 256, 3, 1, 1),
}
_POOLED = ("conv1", "conv2", "conv5")


@register(parameters=62_378_344, macs=1_135_256_096)
def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 224,
    groups: Sequence[Groups] = (1, 1, 1, 1),
    dropout: float = 0.5,
) -> nn.Module:
    """AlexNet without filter groups (Deep Roots, section 2, figure 2): five convolutions, three dense layers.

    The original has groups (2, 1, 2, 2) and local response normalisation; here it is batch normalisation, which folds
    away.

    Overrides:
        image_size: at least 63.
        groups: filter groups of conv2 to conv5: a number each, or relative sizes of unequal groups.
        dropout: share of values dropped before each of the first two dense layers.

    Raises:
        ConfigError: if the groups do not divide a layer's channels, or another argument is out of range.
    """
    require_image_size("alexnet", image_size, smallest=63)
    require_group_list("alexnet", groups, 4, "conv2 to conv5")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout of alexnet is {dropout!r}; expected a number from 0 to below 1")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for (name, (inputs, outputs, kernel_size, stride, padding)), number in zip(
        _LAYERS.items(), (1, *groups), strict=True
    ):
        channels = in_channels if inputs is None else inputs
        require_groups("alexnet", name, number, channels, outputs)
        modules[name] = conv2d_in_groups(
            NormalisedConv2d, channels, outputs, kernel_size, stride=stride, padding=padding, groups=number
        )
        he_grouped_(modules[name])
        modules[name.replace("conv", "relu")] = nn.ReLU(inplace=True)
        if name in _POOLED:
            modules[name.replace("conv", "pool")] = nn.MaxPool2d(3, 2)
    modules["grid"] = nn.AdaptiveAvgPool2d(6)
    modules["flatten"] = nn.Flatten()
    for name, features in (("fc6", 256 * 6**2), ("fc7", 4096)):
        modules[name.replace("fc", "dropout")] = nn.Dropout(dropout)
        modules[name] = dense(features, 4096)
        modules[name.replace("fc", "relu")] = nn.ReLU(inplace=True)
    modules["fc8"] = dense(4096, num_classes)
    return nn.Sequential(modules)


_ROOTS = {
    2: (62_071_144, 911_307_296),
    4: (60_369_256, 537_672_224),
    8: (59_518_312, 350_854_688),
}
_GROUPS = {
    2: (60_965_224, 724_406_816),
    4: (60_258_664, 518_982_176),
    8: (59_905_384, 416_269_856),
}

for _degree, _size in _ROOTS.items():
    _half = _degree // 2
    register_variant(
        f"alexnet_root{_degree}",
        alexnet,
        _size,
        f"AlexNet with {_degree} filter groups in conv2 and {_half} in conv3 to conv5 (Deep Roots, section 3).",
        groups=(_degree, _half, _half, _half),
    )
for _degree, _size in _GROUPS.items():
    register_variant(
        f"alexnet_groups{_degree}",
        alexnet,
        _size,
        f"AlexNet with {_degree} filter groups where the original has 2 (Deep Roots, figure 2).",
        groups=(_degree, 1, _degree, _degree),
    )
