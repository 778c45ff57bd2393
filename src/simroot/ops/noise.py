"""Multiplicative Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from simroot.errors import ConfigError
from simroot.ops.common import precision


def multiplicative_noise(
    x: Tensor, sigma: float, *, training: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """The product x (1 + sigma n) with n ~ N(0, 1) drawn for every element; x itself when not training or sigma is 0.

    Deep SimNets, section 6.4: the regulariser of the three layer network, in place of dropout.

    Args:
        x: Any shape.
        sigma: Standard deviation of the factor, >= 0.
        training: Whether to draw noise at all.
        generator: Source of the randomness, on the device of `x`; None takes PyTorch's default.

    Raises:
        ConfigError: If sigma is negative or not finite, or x is not of a floating point type.
    """
    if has_torch_function((x,)):
        return handle_torch_function(multiplicative_noise, (x,), x, sigma, training=training, generator=generator)
    if not 0 <= sigma < float("inf"):
        raise ConfigError(f"sigma is {sigma}, expected a number >= 0")
    if not training or sigma == 0:
        return x
    precision(x)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.addcmul(x, x, noise, value=sigma)
