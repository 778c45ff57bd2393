"""The network as an exported graph holds it: every layer of ``simroot.layers`` in standard operators, constants folded.

Whatever depends on parameters alone is computed here, in float64, so that a file holds numbers and no arithmetic on
them. Values cannot be looked at in a graph: each form is one that is accurate for every input of usual range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import product
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, Similarity2d, WhitenedSimilarity2d
from simroot.models import deploy

# More coordinates than this are treated several at a time: a graph of a few thousand nodes loads slowly.
_COORDINATES = 256
_SMALLEST = torch.finfo(torch.float32).tiny
# Below it beta changes nothing in float32.
_SMALLEST_BETA = 1e-30

Lp = Callable[[Similarity2d], nn.Module]
"""What takes the place of an l_p similarity of an order other than 2."""

_Window = tuple[int, int, int, bool]
"""Size, step, padding and whether a last, partial window counts."""


def graph_form(model: nn.Module, lp: Lp | None = None) -> nn.Module:
    """The deployed network with every similarity and MEX layer in standard operators; outputs as in evaluation.

    Args:
        model: any network; it stays as it is.
        lp: gives the module for a folded similarity of another order than 2; ``LpDifferences`` if None.

    Raises:
        ConfigError: for a layer with an order or beta that is not finite.
    """
    form = _replace(deploy(model), lp or LpDifferences)
    return form.float().requires_grad_(False)


@torch.no_grad()
def _replace(module: nn.Module, lp: Lp) -> nn.Module:
    if isinstance(module, WhitenedSimilarity2d):
        return _whitened(module, lp)
    if isinstance(module, Similarity2d):
        return _similarity(module, lp)
    if isinstance(module, MexDense):
        return MexMatrix(module)
    if isinstance(module, MexPool2d | GlobalMexPool2d):
        return _pooling(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child, lp))
    return module


def _whitened(module: WhitenedSimilarity2d, lp: Lp) -> nn.Module:
    similarity = _similarity(module.similarity, lp)
    if isinstance(similarity, Quadratic) and module.conv.bias is not None and not any(similarity.padding):
        module.conv.bias -= similarity.take_centre().to(module.conv.bias)
    return nn.Sequential(module.conv, similarity)


def _similarity(layer: Similarity2d, lp: Lp) -> nn.Module:
    layer.fold()
    order = float(layer.order)
    if layer.kind == "linear":
        weights = layer.templates if layer.weights is None else layer.weights * layer.templates
        return _conv(layer, weights, layer.bias, padding=layer.padding)
    if not 0 < order < math.inf:
        raise ConfigError(f"a similarity has order {order}; expected a positive finite number")
    return Quadratic(layer) if order == 2 else lp(layer)


def _conv(layer: Similarity2d, weight: Tensor, bias: Tensor | None, padding: int = 0) -> nn.Conv2d:
    units, channels, *kernel = weight.shape
    options = {"stride": layer.stride, "groups": layer.groups, "padding": padding, "bias": bias is not None}
    conv = nn.Conv2d(channels * layer.groups, units, kernel, **options)  # type: ignore[arg-type]
    conv.weight.copy_(weight)
    if conv.bias is not None and bias is not None:
        conv.bias.copy_(bias)
    return conv


def _weights(layer: Similarity2d) -> Tensor:
    return torch.ones_like(layer.templates) if layer.weights is None else layer.weights


def _sides(layer: Similarity2d) -> tuple[int, int, int, int]:
    return (layer.padding,) * 4


class Quadratic(nn.Module):
    """``b - sum u (x - z)^2`` as ``conv(y, 2 u v) + (b - sum u v^2) - conv(y^2, u)`` with y = x - c and v = z - c.

    c is each channel's mean over the templates: common offsets of x and z cost no digits. The minus sign is in the
    weights, since engines fuse an addition with a convolution but not a subtraction.
    """

    centre: Tensor | None

    def __init__(self, layer: Similarity2d) -> None:
        super().__init__()
        templates, weights = layer.templates.double(), _weights(layer).double()
        centre = templates.unflatten(0, (layer.groups, -1)).mean((1, 3, 4), keepdim=True)
        v = (templates.unflatten(0, (layer.groups, -1)) - centre).flatten(0, 1)
        bias = -(weights * v.square()).sum((1, 2, 3))
        if layer.bias is not None:
            bias += layer.bias
        self.padding = _sides(layer)
        self.linear = _conv(layer, 2 * weights * v, bias)
        self.square = _conv(layer, -weights, None)
        self.register_buffer("centre", centre.view(-1, 1, 1))

    def take_centre(self) -> Tensor:
        """c, (C,), which what lies before must subtract from now on."""
        assert self.centre is not None
        centre, self.centre = self.centre.flatten(), None
        return centre

    def rescale(self, mean: Tensor, deviation: Tensor) -> None:
        """Give ``(s - mean) / deviation`` from now on, per template, in place of s."""
        assert self.linear.bias is not None
        self.linear.bias.copy_((self.linear.bias - mean) / deviation)
        for conv in (self.linear, self.square):
            conv.weight /= deviation.view(-1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.padding):
            x = F.pad(x, self.padding)
        y = x if self.centre is None else x - self.centre
        return self.linear(y) + self.square(y * y)


class LpDifferences(nn.Module):
    """``b - sum_i u_i |x_i - z_i|^p`` summed one coordinate after another: memory is that of a few outputs.

    Of more than 256 coordinates several are treated at a time. An engine that fuses elementwise operators (OpenVINO)
    keeps the running sum in registers.
    """

    def __init__(self, layer: Similarity2d) -> None:
        super().__init__()
        self.order, self.padding, self.stride = float(layer.order), _sides(layer), layer.stride
        units, self.channels, *self.kernel = layer.templates.shape
        self.size = -(-layer.templates[0].numel() // _COORDINATES)
        bias = torch.zeros(units) if layer.bias is None else layer.bias
        self.bias = nn.ParameterList(list(bias.detach().view(layer.groups, -1, 1, 1)))
        self.places = list(
            product(range(layer.groups), range(-(-self.channels // self.size)), *map(range, self.kernel))
        )
        self.templates = nn.ParameterList(self._columns(layer.templates, layer.groups))
        self.weights = nn.ParameterList(self._columns(-_weights(layer), layer.groups))

    def _columns(self, tensor: Tensor, groups: int) -> Iterator[Tensor]:
        """Of each place (group, part of the channels, row, column of the kernel) what belongs to it."""
        parts = tensor.unflatten(0, (groups, -1))
        for group, part, i, j in self.places:
            column = parts[group, :, part * self.size : (part + 1) * self.size, i, j, None, None]
            yield (column[:, 0] if self.size == 1 else column).clone()

    def rescale(self, mean: Tensor, deviation: Tensor) -> None:
        """Give ``(s - mean) / deviation`` from now on, per template, in place of s."""
        means, deviations = (tensor.view(len(self.bias), -1, 1, 1) for tensor in (mean, deviation))
        for group, bias in enumerate(self.bias):
            bias.copy_((bias - means[group]) / deviations[group])
        for (group, *_), weight in zip(self.places, self.weights, strict=True):
            weight /= deviations[group].view(-1, *[1] * (weight.ndim - 1))

    def forward(self, x: Tensor) -> Tensor:
        if any(self.padding):
            x = F.pad(x, self.padding)
        groups = x.split(self.channels, 1) if len(self.bias) > 1 else (x,)
        columns = [group.split(self.size, 1) for group in groups]
        sums: list[Tensor] = list(self.bias)
        for (group, part, i, j), template, weight in zip(self.places, self.templates, self.weights, strict=True):
            column = self._under(columns[group][part], i, j)
            if self.size == 1:
                sums[group] = sums[group] + power(column - template, self.order) * weight
            else:
                sums[group] = sums[group] + (power(column.unsqueeze(1) - template, self.order) * weight).sum(2)
        return sums[0] if len(sums) == 1 else torch.cat(sums, 1)

    def _under(self, x: Tensor, i: int, j: int) -> Tensor:
        """What of x lies under one coordinate of the receptive fields."""
        if self.kernel == [1, 1] and self.stride == 1:
            return x
        rows, columns = (size - kernel + 1 for size, kernel in zip(x.shape[2:], self.kernel, strict=True))
        return x[:, :, i : i + rows : self.stride, j : j + columns : self.stride]


def power(difference: Tensor, order: float) -> Tensor:
    """``|difference|^order``; multiples of one half up to 4 by products and a square root, others by exp and log."""
    size = difference.abs()
    whole, half = divmod(order, 1)
    if order > 4 or half not in (0, 0.5):
        return (order * size.clamp_min(_SMALLEST).log()).exp()
    factors = [size] * int(whole) + [size.sqrt()] * (half == 0.5)
    return reduce(mul, factors)


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
        layer.fold()
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


def _pooling(layer: MexPool2d | GlobalMexPool2d) -> nn.Module:
    layer.fold()
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
