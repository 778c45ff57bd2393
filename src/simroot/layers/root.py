"""Filter groups: root modules (Deep Roots, section 3), groups of different sizes, and their initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers.grouped import GroupedConv2d

# A number of equal groups, or the relative sizes of unequal ones: [2, 1, 1] is a half and two quarters of the channels.
Groups = int | Sequence[int]


def group_sizes(groups: object, channels: int) -> list[int] | None:
    """Channels in each group; None if they are not whole numbers of at least one, or the groups make no sense.

    Args:
        groups: a number of equal groups, or relative sizes.
        channels: channels to divide.
    """
    shares = [1] * groups if isinstance(groups, int) else list(groups) if isinstance(groups, Sequence) else []
    if not shares or any(not isinstance(share, int) or share < 1 for share in shares):
        return None
    total = sum(shares)
    if any(channels * share % total for share in shares):
        return None
    return [channels * share // total for share in shares]


def conv2d_in_groups(
    convolution: Callable[..., nn.Conv2d],
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    groups: Groups = 1,
    **options: Any,
) -> nn.Module:
    """A convolution in filter groups: one layer where they are equal, an ``UnevenConv2d`` where they are not.

    Args:
        convolution: ``nn.Conv2d``, which becomes a ``GroupedConv2d`` for several groups, or a subclass with its
            arguments.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the filters.
        groups: a number of equal groups, or relative sizes.
        **options: further arguments of ``convolution``.

    Raises:
        ConfigError: if the groups do not divide the channels.
    """
    inputs, outputs = group_sizes(groups, in_channels), group_sizes(groups, out_channels)
    if inputs is None or outputs is None:
        raise ConfigError(
            f"{in_channels} input and {out_channels} output channels cannot be split into groups {groups!r}; choose a "
            "number that divides both, or relative sizes that do"
        )
    if isinstance(groups, int):
        if convolution is nn.Conv2d and groups > 1:
            convolution = GroupedConv2d
        return convolution(in_channels, out_channels, kernel_size, groups=groups, **options)
    return UnevenConv2d([convolution(i, o, kernel_size, **options) for i, o in zip(inputs, outputs, strict=True)])


class UnevenConv2d(nn.Module):
    """Convolution in filter groups of different sizes (the future work of Deep Roots, section 6).

    (N, C, H, W) -> (N, D, H', W'): part i reads its own ``in_channels`` of the C channels, in order, and gives its own
    of the D.

    Args:
        parts: the convolution of each group.
    """

    def __init__(self, parts: Iterable[nn.Conv2d]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.split([part.in_channels for part in self.parts], dim=1)
        return torch.cat([part(piece) for part, piece in zip(self.parts, pieces, strict=True)], dim=1)


def he_composite_(*parts: nn.Conv2d, generator: torch.Generator | None = None) -> None:
    """He's initialisation of a layer that is composed of convolutions: filters from N(0, sigma^2), biases 0.

    ``sigma = sqrt(2 / sum_i w_i h_i d_i)`` over all parts i that read the same input, with filters of w_i x h_i, d_i of
    which read one input channel: as many as there are in a filter group. The variance of the gradient then stays the
    same across the layer (Deep Roots, sections 4.3 and 4.4).

    Args:
        *parts: convolutions that read the same channels.
        generator: source of randomness; torch's global one if None.
    """
    connections = sum(math.prod(part.kernel_size) * part.out_channels // part.groups for part in parts)
    for part in parts:
        nn.init.normal_(part.weight, 0, math.sqrt(2 / connections), generator=generator)
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def he_grouped_(convolution: nn.Module, generator: torch.Generator | None = None) -> None:
    """``he_composite_`` for what ``conv2d_in_groups`` gives: groups read channels of their own, each is a layer."""
    parts = convolution.parts if isinstance(convolution, UnevenConv2d) else [convolution]
    for part in parts:
        assert isinstance(part, nn.Conv2d)
        he_composite_(part, generator=generator)
