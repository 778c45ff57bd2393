"""A convolution behind a normalisation and an activation, by PyTorch's operations."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from simroot.ops.norm.plain import activated


class Norm(NamedTuple):
    """``f((x - mean) weight / sqrt(var + eps) + bias)`` for each channel; vectors (C,), weight and bias may be None."""

    mean: Tensor | None
    var: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    activation: str

    def __call__(self, x: Tensor) -> Tensor:
        if self.mean is None or self.var is None:
            return x
        scale = (self.var + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        z = (x - self.mean[:, None, None]) * scale[:, None, None]
        return activated(z if self.bias is None else z + self.bias[:, None, None], None, self.activation)


def plain_conv(x: Tensor, filters: Tensor, stride: int, padding: int, groups: int, norm: Norm | None) -> Tensor:
    """The convolution of f(norm(x))."""
    return F.conv2d(x if norm is None else norm(x), filters, None, stride, padding, 1, groups)
