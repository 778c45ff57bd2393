"""MEX layers: classification with offsets, local and global pooling (Deep SimNets, sections 2, 4.1 and 4.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from simroot import ops
from simroot.errors import ConfigError
from simroot.layers.parametrizations import OffsetsFromLogAlpha, Parametrised, Positive, Slow, parameter

# All outputs depend on a beta at once: it moves slowly, or its first steps overshoot and training collapses.
_BETA_RATE = 0.3
# What pooling compares differs from place to place by what all templates share, too, which is far more than what tells
# classes apart: its gradient is the larger.
_POOL_BETA_RATE = 0.1


class MexDense(Parametrised):
    """MEX units over the channels: ``h_r = 1/beta log(1/C sum_c exp(beta (x_c + b_rc)))``, beta > 0.

    (N, C[, H, W]) -> (N, units[, H, W]). The offsets are learned through ``log(alpha) = beta b`` (section 3), which
    start as N(0, 1), each unit's alpha brought to a mean of 1: different, since equal offsets make all classes equal
    and the gradient below them zero, but with no class ahead. At a small beta the unit is a linear one with weights
    alpha / C. ``beta`` and ``offsets`` can be read and assigned: beta first, since an assignment to it keeps alpha.

    Args:
        in_channels: C.
        units: number of units, R.
        beta: first value of beta.
        learn_beta: False to fix beta.
        learn_offsets: False to fix the offsets.
        offsets_rate: factor on the learning rate of the offsets.

    Raises:
        ConfigError: if beta is not positive and finite.
    """

    training_hints: Mapping[str, Mapping[str, float]]
    beta: Tensor
    offsets: Tensor

    def __init__(
        self,
        in_channels: int,
        units: int,
        *,
        beta: float = 1.0,
        learn_beta: bool = True,
        learn_offsets: bool = True,
        offsets_rate: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < beta < math.inf:
            raise ConfigError(f"beta of MexDense is {beta}; expected a positive finite number")
        self.training_hints = {"beta": {"weight_decay": 0.0}, "offsets": {"weight_decay": 0.0, "lr": offsets_rate}}
        parameter(self, "beta", torch.tensor(float(beta)), learn=learn_beta, by=Positive(_BETA_RATE))
        log_alpha = torch.randn(units, in_channels)
        log_alpha -= log_alpha.logsumexp(1, keepdim=True) - math.log(in_channels)
        parameter(self, "offsets", log_alpha / beta, learn=learn_offsets, by=OffsetsFromLogAlpha(self))

    def forward(self, x: Tensor) -> Tensor:
        return ops.mex_dense(x, self.offsets, self.beta)

    def extra_repr(self) -> str:
        units, channels = self.offsets.shape
        return f"{channels}, {units}, beta={float(self.beta.detach()):.3g}"


class MexPool2d(Parametrised):
    """MEX over windows: maximum at beta = inf, average at 0, minimum at -inf; (N, C, H, W) -> (N, C, H', W').

    A window at the border counts only the positions that exist.

    Args:
        kernel_size: height and width of a window.
        stride: step between windows; the kernel size if None.
        padding: positions added on every side, which never count.
        ceil_mode: keep a last window that is only partly inside.
        beta: its (first) value.
        learn_beta: True to learn beta, which must then be finite.
        channels: learn one beta per channel, of this many.

    Raises:
        ConfigError: for an infinite beta that should be learned.
    """

    training_hints: ClassVar[Mapping[str, Mapping[str, float]]] = {"beta": {"weight_decay": 0.0}}
    beta: Tensor | float

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        *,
        ceil_mode: bool = False,
        beta: float = math.inf,
        learn_beta: bool = False,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode
        _set_beta(self, beta, learn_beta, channels, _POOL_BETA_RATE)

    def forward(self, x: Tensor) -> Tensor:
        return ops.mex_pool2d(x, self.beta, self.kernel_size, self.stride, self.padding, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, beta={_text(self.beta)}"


class GlobalMexPool2d(Parametrised):
    """MEX over all positions, (N, C, H, W) -> (N, C): the average at beta = 0.

    Args:
        beta: its (first) value.
        learn_beta: False to fix beta.
        channels: learn one beta per channel, of this many.
        beta_rate: beta is learned as beta_rate times a parameter, so that a step of SGD moves it by beta_rate^2 times
            what it would at 1.

    Raises:
        ConfigError: for an infinite beta that should be learned.
    """

    training_hints: ClassVar[Mapping[str, Mapping[str, float]]] = {"beta": {"weight_decay": 0.0}}
    beta: Tensor | float

    def __init__(
        self,
        *,
        beta: float = 0.0,
        learn_beta: bool = True,
        channels: int | None = None,
        beta_rate: float = _POOL_BETA_RATE,
    ) -> None:
        super().__init__()
        _set_beta(self, beta, learn_beta, channels, beta_rate)

    def forward(self, x: Tensor) -> Tensor:
        return ops.global_mex_pool2d(x, self.beta)

    def extra_repr(self) -> str:
        return f"beta={_text(self.beta)}"


def _set_beta(layer: MexPool2d | GlobalMexPool2d, beta: float, learn: bool, channels: int | None, rate: float) -> None:
    if not learn:
        layer.beta = float(beta)
        return
    if not math.isfinite(beta):
        raise ConfigError(f"a beta of {beta} cannot be learned; give a finite first value or learn_beta=False")
    value = torch.full(() if channels is None else (channels,), float(beta))
    parameter(layer, "beta", value, learn=True, by=Slow(rate))


def _text(beta: Tensor | float) -> str:
    return f"{beta:g}" if isinstance(beta, float) else f"{beta.numel()} learned, mean {float(beta.detach().mean()):.3g}"
