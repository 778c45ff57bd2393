"""A convolution with batch normalisation as usual, its learned scale too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.layers.norm import BatchNorm, NormalisedConv2d


class ScaledConv2d(NormalisedConv2d):
    """Convolution and batch normalisation as usual: ``y = g (w * x - mean) / sqrt(var + eps) + b``, learned g and b.

    (N, C, H, W) -> (N, D, H', W'). The odd ``kernel_size`` pads so that only the stride changes the size. ``folded``
    gives the plain convolution with a bias that it is after training.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups)
        self.gain = nn.Parameter(torch.ones(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = self.batch_norm()
        assert norm is not None
        return F.batch_norm(self._conv_forward(x, self.filters_for(x), None), *norm)

    def batch_norm(self) -> BatchNorm | None:
        """What follows the convolution, with the learned scale."""
        found = super().batch_norm()
        return None if found is None else found._replace(weight=self.gain)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """The plain convolution with the same output in evaluation."""
        conv = super().folded()
        assert conv.bias is not None
        assert self.bias is not None
        conv.weight *= self.gain[:, None, None, None]
        conv.bias.copy_(self.gain * (conv.bias - self.bias) + self.bias)
        return conv
