"""The residual block of small residual networks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from simroot.layers.blocks.scaled import ScaledConv2d


class BasicBlock(nn.Module):
    """Two 3x3 convolutions added to the input (He et al. 2015); (N, C, H, W) -> (N, D, H / stride, W / stride).

    The shortcut has no parameters: where the size halves it takes every other pixel, and new channels are zeros
    (their option A, which they use for CIFAR-10).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, out_channels - in_channels
        self.conv1 = ScaledConv2d(in_channels, out_channels, 3, stride=stride)
        self.conv2 = ScaledConv2d(out_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(shortcut + self.conv2(F.relu(self.conv1(x))))
