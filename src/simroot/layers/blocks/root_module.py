"""Root modules (Deep Roots, section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from simroot.layers.blocks.scaled import ScaledConv2d
from simroot.layers.grouped import GroupedConv2d
from simroot.layers.norm import NormalisedConv2d
from simroot.layers.root import Groups, conv2d_in_groups, he_composite_, he_grouped_


class RootModule2d(nn.Sequential):
    """Root module (figure 4): a spatial convolution in filter groups, then a 1 x 1 convolution that combines them.

    (N, C, H, W) -> (N, out_channels, H', W'). Each convolution is followed by batch normalisation while it trains
    (``simroot.models.deploy`` folds it away), the first also by a ReLU. Every filter so depends on all input channels,
    though each spatial filter reads C / groups of them.

    Args:
        in_channels: C of the input.
        out_channels: channels of the 1 x 1 convolution.
        kernel_size: height and width of the spatial filters.
        groups: filter groups of the spatial convolution: a number, or relative sizes.
        filters: spatial filters; ``out_channels`` if None.
        stride: step of the spatial convolution.
        padding: zeros on every side of its input; half the kernel size if None.
        norm: False for plain convolutions.

    Raises:
        ConfigError: if the groups do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        groups: Groups = 1,
        filters: int | None = None,
        stride: int = 1,
        padding: int | None = None,
        norm: bool = True,
    ) -> None:
        filters = out_channels if filters is None else filters
        padding = kernel_size // 2 if padding is None else padding
        options = {"stride": stride, "padding": padding, "norm": norm}
        super().__init__()
        self.spatial = conv2d_in_groups(NormalisedConv2d, in_channels, filters, kernel_size, groups=groups, **options)
        self.relu = nn.ReLU()
        self.embedding = NormalisedConv2d(filters, out_channels, 1, norm=norm)
        he_grouped_(self.spatial)
        he_composite_(self.embedding)


class ResidualRootModule2d(nn.Module):
    """Root module whose 1 x 1 convolution alone is normalised, added to its input where that has as many channels.

    (N, C, H, W) -> (N, D, H, W); ``y = relu(norm(embedding * (spatial * x)))``, and ``y + x`` if D = C. With groups of
    one channel it is a depthwise separable convolution.

    Args:
        in_channels: C, and the number of spatial filters.
        out_channels: D.
        kernel_size: height and width of the spatial filters, odd.
        group_width: channels that each of them reads; divides C.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, group_width: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv2d if group_width == 1 else GroupedConv2d
        self.spatial = convolution(
            in_channels,
            in_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=in_channels // group_width,
            bias=False,
        )
        self.embedding = ScaledConv2d(in_channels, out_channels, 1)
        self.relu = nn.ReLU()
        self.adds = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.embedding(self.spatial(x)))
        return x + y if self.adds else y
