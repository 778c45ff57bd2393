"""GoogLeNet (Szegedy et al.) as Deep Roots trains it, section 4.4: batch normalisation without scale and bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers import NormalisedConv2d
from simroot.layers.root import Groups, conv2d_in_groups, he_composite_, he_grouped_
from simroot.models.building import ImageSize, dense, require_group_list, require_image_size
from simroot.models.registry import register, register_roots
from simroot.roots.schedules import require_groups

# Channels of the 1x1 branch, the 3x3 branch (reduced, output), the 5x5 branch (reduced, output) and the pooled branch.
_INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
# Auxiliary heads read the output of these modules.
_AUXILIARY = {"inception4a": "aux1", "inception4d": "aux2"}
_TORCHVISION_EPS = 1e-3

Layout = Literal["original", "torchvision", "padded"]


class AuxiliaryScores(NamedTuple):
    """What a network with auxiliary heads returns while it trains.

    The loss is that of ``scores`` plus ``weight`` times the loss of each of ``auxiliary``. In evaluation the network
    returns the scores alone.

    Attributes:
        scores: (N, classes).
        auxiliary: scores of the auxiliary heads, each (N, classes).
        weight: share of an auxiliary head's loss.
    """

    scores: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float = 0.3


class ConvReLU(nn.Module):
    """Normalised convolution and ReLU; a module of its own so that names are torchvision's.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the filters; the input is padded by half of it.
        stride: step between output positions.
        groups: filter groups.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: Groups = 1
    ) -> None:
        super().__init__()
        self.conv = conv2d_in_groups(
            NormalisedConv2d,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
        )
        self.relu = nn.ReLU(inplace=True)
        he_grouped_(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x))


class Inception(nn.Module):
    """1x1, 3x3, 5x5 and pooled branches side by side; (N, C, H, W) -> (N, sum of the branches' channels, H, W).

    Args:
        in_channels: C.
        channels: of the branches, as in GoogLeNet's table.
        groups: filter groups of the 3x3 and 5x5 convolutions.
        kernel_5x5: size of the filters in the 5x5 branch.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], groups: Groups, kernel_5x5: int) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = channels
        self.branch1 = ConvReLU(in_channels, one, 1)
        self.branch2 = nn.Sequential(ConvReLU(in_channels, reduce3, 1), ConvReLU(reduce3, three, 3, groups=groups))
        self.branch3 = nn.Sequential(
            ConvReLU(in_channels, reduce5, 1), ConvReLU(reduce5, five, kernel_5x5, groups=groups)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvReLU(in_channels, pooled, 1))
        # One composite layer: four convolutions read the input.
        readers = (self.branch1, self.branch2[0], self.branch3[0], self.branch4[1])
        he_composite_(*(reader.conv for reader in readers))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class AuxiliaryHead(nn.Module):
    """Class scores from the middle of the network, for training; (N, C, H, W) -> (N, classes).

    Args:
        in_channels: C.
        num_classes: number of class scores.
        grid: height and width to which the input is averaged.
    """

    def __init__(self, in_channels: int, num_classes: int, grid: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.conv = ConvReLU(in_channels, 128, 1)
        self.fc1 = dense(128 * grid**2, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = dense(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x)).flatten(1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))

    def folded(self) -> nn.Module:
        """Nothing: a deployed network does not ask for its scores."""
        return nn.Identity()


class GoogLeNet(nn.Module):
    """Three convolutions, nine inception modules and a linear layer (table 1 of Szegedy et al.).

    (N, C, H, W) -> (N, classes), or ``AuxiliaryScores`` while it trains with auxiliary heads. Module names are
    torchvision's.

    Args:
        num_classes: number of class scores.
        in_channels: channels of the images.
        groups: filter groups of conv3 and of the inception modules 3, 4 and 5.
        auxiliary: with auxiliary heads.
        layout: see ``googlenet``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        groups: Sequence[Groups],
        *,
        auxiliary: bool,
        layout: Layout,
    ) -> None:
        super().__init__()
        padded = layout == "padded"
        self.conv1 = ConvReLU(in_channels, 64, 7, stride=2)
        self.conv2 = ConvReLU(64, 64, 1)
        self.conv3 = ConvReLU(64, 192, 3, groups=groups[0])
        channels = 192
        for name, branches in _INCEPTIONS.items():
            stage = int(name[-2]) - 2
            self.add_module(name, Inception(channels, branches, groups[stage], 3 if layout == "torchvision" else 5))
            channels = sum(branches[i] for i in (0, 2, 4, 5))
            if auxiliary and name in _AUXILIARY:
                self.add_module(_AUXILIARY[name], AuxiliaryHead(channels, num_classes, grid=5 if padded else 4))
        # Pools before conv2, inception 3, 4 and 5.
        sizes = (3, 3, 3, 2 if layout == "torchvision" else 3)
        paddings = (0, 0, 1, 1) if padded else (0, 0, 0, 0)
        pools = [nn.MaxPool2d(size, 2, padding, ceil_mode=True) for size, padding in zip(sizes, paddings, strict=True)]
        self.maxpool1, self.maxpool2, self.maxpool3, self.maxpool4 = pools
        self.avgpool = nn.AvgPool2d(7, 1) if padded else nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.4)
        self.fc = dense(4 * channels if padded else channels, num_classes)

    def forward(self, x: Tensor) -> Tensor | AuxiliaryScores:
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        auxiliary = []
        for name in _INCEPTIONS:
            if name in ("inception4a", "inception5a"):
                x = (self.maxpool3 if name == "inception4a" else self.maxpool4)(x)
            x = self.get_submodule(name)(x)
            head = getattr(self, _AUXILIARY.get(name, ""), None)
            if self.training and head is not None:
                auxiliary.append(head(x))
        scores = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        return AuxiliaryScores(scores, tuple(auxiliary)) if auxiliary else scores


@register(parameters=6_998_552, macs=1_582_671_872)
def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 224,
    groups: Sequence[Groups] = (1, 1, 1, 1),
    auxiliary: bool = True,
    layout: Layout = "original",
) -> nn.Module:
    """GoogLeNet (Deep Roots, section 4.4, tables 6 and 7): 57 convolutions, batch normalisation that folds away.

    Overrides:
        image_size: at least 32; 224 for the padded layout.
        groups: filter groups of conv3 and of the 3x3 and 5x5 convolutions in the inception modules 3, 4 and 5: a
            number each, or relative sizes of unequal groups.
        auxiliary: two auxiliary heads while it trains; it then returns ``AuxiliaryScores``.
        layout: ``"original"``; ``"torchvision"``, with 3x3 filters in the 5x5 branches and a last pool of 2x2, whose
            state dicts ``googlenet_from_torchvision`` converts; or ``"padded"``, Deep Roots' training network as its
            table 6 counts it: the pools before inception 4 and 5 pad, so that their grids are 15 and 8, and windows
            of 7x7 are averaged with step 1, which leaves 4096 features to classify.

    Raises:
        ConfigError: if the groups do not divide a layer's channels, or another argument is out of range.
    """
    size = require_image_size("googlenet", image_size, smallest=32)
    if layout not in get_args(Layout):
        raise ConfigError(f"layout of googlenet is {layout!r}; expected {', '.join(get_args(Layout))}")
    if layout == "padded" and size != (224, 224):
        raise ConfigError(f"image_size of googlenet is {image_size}; the padded layout works with 224 alone")
    require_group_list("googlenet", groups, 4, "conv3 and inception 3 to 5")
    require_groups("googlenet", "conv3", groups[0], 64, 192)
    for name, (_, reduce3, three, reduce5, five, _) in _INCEPTIONS.items():
        stage_groups = groups[int(name[-2]) - 2]
        require_groups("googlenet", f"{name}.branch2", stage_groups, reduce3, three)
        require_groups("googlenet", f"{name}.branch3", stage_groups, reduce5, five)
    return GoogLeNet(num_classes, in_channels, groups, auxiliary=auxiliary, layout=layout)


def googlenet_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a state dict of torchvision's GoogLeNet into one of ``googlenet(layout="torchvision")``.

    The learned scale g and offset b of its batch normalisations go into the filters, the means and the biases:
    ``g (w x - m) / s + b = (g w x - g m) / s + b``; outputs in evaluation are the same.

    Args:
        state: a state dict of ``torchvision.models.googlenet``, with or without auxiliary heads.
    """
    ours = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".bn.")
        if name.endswith(".conv.weight"):
            gain = state[name.replace(".conv.weight", ".bn.weight")]
            ours[name] = tensor * gain[:, None, None, None]
        elif not layer:
            ours[name] = tensor
        elif kind == "bias":
            ours[f"{layer}.conv.bias"] = tensor
        elif kind == "running_mean":
            ours[f"{layer}.conv.norm.mean"] = tensor * state[f"{layer}.bn.weight"]
        elif kind == "running_var":
            ours[f"{layer}.conv.norm.var"] = tensor + (_TORCHVISION_EPS - 1e-5)
    return ours


_ROOTS = {
    2: (6_943_256, 1_409_263_616),
    4: (6_704_920, 1_157_380_096),
    8: (5_693_720, 856_600_064),
    16: (4_497_944, 672_391_424),
}

register_roots("googlenet", googlenet, _ROOTS, stages=4, where="tables 6 and 7")
