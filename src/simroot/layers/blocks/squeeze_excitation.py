"""Gates of channels."""

from __future__ import annotations

from torch import Tensor, nn

from simroot.layers.norm import NormalisedConv2d


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate of all channels' means (Hu et al.); (N, C, H, W) -> (N, C, H, W).

    ``y = x hardsigmoid(W_2 relu(W_1 mean(x)))`` with C / ``squeeze`` units between.
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        squeezed = max(1, channels // squeeze)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            NormalisedConv2d(channels, squeezed, 1, norm=False),
            nn.ReLU(),
            NormalisedConv2d(squeezed, channels, 1, norm=False),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
