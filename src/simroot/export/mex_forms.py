"""MEX units and poolings in an exported graph."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d

_Window = tuple[int, int, int, bool]
"""Size, step, padding and whether a last, partial window counts."""

_SMALLEST = torch.finfo(torch.float32).tiny
# Below it beta changes nothing in float32.
_SMALLEST_BETA = 1e-30


class MexMatrix(nn.Module):
    """``1/beta log(1/C sum_c exp(beta (x_c + b_rc)))`` as a matrix product of exponentials around the largest ones.

    What the offsets of a channel have in common is added to x first. In a trained network it takes back each channel's
    mean: left in the offsets, x and offsets would have their peaks at different channels and the products of their
    exponentials would underflow. Sums that still do are cut off at the smallest number.
    """

    common: Tensor
    peaks: Tensor

    def __init__(self, layer: MexDense) -> None:
        super().__init__()
        layer = layer.folded()
        self.beta = float(layer.beta)
        common = layer.offsets.double().mean(0)
        offsets = self.beta * (layer.offsets.double() - common)
        peaks = offsets.amax(1, keepdim=True)
        units, channels = offsets.shape
        self.mixing = nn.Conv2d(channels, units, 1, bias=False)
        self.mixing.weight.copy_(((offsets - peaks).exp() / channels)[:, :, None, None])
        self.register_buffer("common", common[:, None, None].float())
        self.register_buffer("peaks", (peaks / self.beta)[:, :, None].float())

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return self._mex(x[:, :, None, None]).flatten(1)
        return self._mex(x)

    def _mex(self, x: Tensor) -> Tensor:
        x = x + self.common
        top = x.amax(1, keepdim=True)
        sums: Tensor = self.mixing((self.beta * (x - top)).exp())
        return sums.clamp_min(_SMALLEST).log() * (1 / self.beta) + (top + self.peaks)


def pooling_form(layer: MexPool2d | GlobalMexPool2d) -> nn.Module:
    """A pooling as an average, an extreme or a MEX.

    Raises:
        ConfigError: for a beta that is no number, or infinite for some of the channels.
    """
    layer = layer.folded()
    beta = torch.as_tensor(layer.beta, dtype=torch.float64)
    if beta.isnan().any() or (beta.isinf().any() and beta.numel() > 1):
        raise ConfigError(f"beta of {layer} is {beta.tolist()}; expected finite numbers, or one that is infinite")
    if isinstance(layer, GlobalMexPool2d):
        if not beta.any():
            return GlobalAverage()
        return GlobalExtreme(positive=bool(beta > 0)) if beta.isinf().any() else GlobalMex(beta)
    stride = layer.kernel_size if layer.stride is None else layer.stride
    window = (layer.kernel_size, stride, layer.padding, layer.ceil_mode)
    if not beta.any():
        return nn.AvgPool2d(*window, count_include_pad=False)
    if not beta.isinf().any():
        return WindowMex(beta, window)
    return _max_pool(window) if beta > 0 else WindowMinimum(window)


class GlobalAverage(nn.Module):
    """(N, C, H, W) -> (N, C): the mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class GlobalExtreme(nn.Module):
    """(N, C, H, W) -> (N, C): the maximum, or the minimum."""

    def __init__(self, *, positive: bool) -> None:
        super().__init__()
        self.positive = positive

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3)) if self.positive else x.amin((2, 3))


class WindowMinimum(nn.Module):
    """Minimum over windows."""

    def __init__(self, window: _Window) -> None:
        super().__init__()
        self.pool = _max_pool(window)

    def forward(self, x: Tensor) -> Tensor:
        return -self.pool(-x)


def _max_pool(window: _Window) -> nn.MaxPool2d:
    kernel, stride, padding, ceil_mode = window
    return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)


class _Mex(nn.Module):
    """MEX for a finite beta of either sign, one or one for each channel, accurate however small it is.

    With t = beta (x - top) <= 0 and r = mean(e^t - 1): top + log(1 + r) / beta, where
    ``e^t - 1 = tanh(t / 2) (e^t + 1)`` and ``log(1 + r) = 2 atanh(r / (2 + r))``.
    """

    sign: Tensor
    beta: Tensor

    def __init__(self, beta: Tensor) -> None:
        super().__init__()
        # A beta of zero among others is that of no effect, positive.
        sign = torch.where(beta < 0, -1.0, 1.0).double()
        beta = sign * beta.abs().clamp_min(_SMALLEST_BETA)
        self.register_buffer("sign", sign.float().view(-1, 1, 1))
        self.register_buffer("beta", beta.float().view(-1, 1, 1))
        self.plain = bool((beta > 0).all())

    def top(self, x: Tensor, maximum: Callable[[Tensor], Tensor]) -> Tensor:
        """Where beta x is largest."""
        return maximum(x) if self.plain else self.sign * maximum(self.sign * x)

    def excess(self, difference: Tensor, beta: Tensor) -> Tensor:
        """e^t - 1."""
        t = beta * difference
        return (0.5 * t).tanh() * (t.exp() + 1)

    def finish(self, top: Tensor, mean: Tensor) -> Tensor:
        """top + log(1 + mean) / beta."""
        return top + (mean / (mean + 2)).atanh() * (2 / self.beta)


class GlobalMex(_Mex):
    """(N, C, H, W) -> (N, C): MEX over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x, lambda values: values.amax((2, 3), keepdim=True))
        return self.finish(top, self.excess(x - top, self.beta).mean((2, 3), keepdim=True)).flatten(1)


class WindowMex(_Mex):
    """(N, C, H, W) -> (N, C, H', W'): MEX over windows, of which only positions inside the image count."""

    def __init__(self, beta: Tensor, window: _Window) -> None:
        super().__init__(beta)
        self.window, self.pool = window, _max_pool(window)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x, self.pool)
        inside = self._windows(torch.ones(1, 1, *x.shape[2:]), top)
        # Positions outside of the image are as large as the largest inside: no excess.
        differences = (self._windows(x, top) - top.unsqueeze(2)) * inside
        return self.finish(top, self.excess(differences, self.beta.unsqueeze(-1)).sum(2) / inside.sum(2))

    def _windows(self, x: Tensor, like: Tensor) -> Tensor:
        """(N, C, positions of the window, H', W'), zeros outside of the image."""
        kernel, step, pad, _ = self.window
        spans = [(size - 1) * step + 1 for size in like.shape[2:]]
        ends = [max(0, span + kernel - 1 - pad - size) for span, size in zip(spans, x.shape[2:], strict=True)]
        x = F.pad(x, (pad, ends[1], pad, ends[0]))
        offsets = product(range(kernel), repeat=2)
        return torch.stack([x[:, :, i : i + spans[0] : step, j : j + spans[1] : step] for i, j in offsets], 2)
