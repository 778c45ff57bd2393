"""Multiplicative Gaussian noise (Deep SimNets, section 6.4)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from simroot import ops
from simroot.errors import ConfigError


class MultiplicativeNoise(nn.Module):
    """``x * (1 + sigma N(0, 1))`` in training, ``x`` otherwise; the noise comes from torch's global generator.

    Args:
        sigma: standard deviation of the noise.

    Raises:
        ConfigError: if sigma is negative or not finite.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        if not 0 <= sigma < math.inf:
            raise ConfigError(f"sigma of the multiplicative noise is {sigma}; expected a finite number >= 0")
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return ops.multiplicative_noise(x, self.sigma, training=self.training)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma:g}"
