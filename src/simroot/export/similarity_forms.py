"""Similarities in an exported graph: by convolutions, by differences, or as an operator of simroot's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import product
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot import ops
from simroot.engines.operators import OPERATOR
from simroot.errors import ConfigError
from simroot.layers import Similarity2d, WhitenedSimilarity2d

Lp = Callable[[Similarity2d], nn.Module]
"""What takes the place of an l_p similarity of an order other than 2."""

# More coordinates than this are treated several at a time: a graph of a few thousand nodes loads slowly.
_COORDINATES = 256
_SMALLEST = torch.finfo(torch.float32).tiny


def whitened_form(module: WhitenedSimilarity2d, lp: Lp) -> nn.Module:
    """The convolution and the similarity behind it, whose centre the convolution subtracts."""
    similarity = similarity_form(module.similarity, lp)
    if isinstance(similarity, Quadratic) and module.conv.bias is not None and not any(similarity.padding):
        module.conv.bias -= similarity.take_centre().to(module.conv.bias)
    return nn.Sequential(module.conv, similarity)


def similarity_form(layer: Similarity2d, lp: Lp) -> nn.Module:
    """A similarity by convolutions if it is linear or l_2, else what ``lp`` gives.

    Raises:
        ConfigError: for an order that is not finite.
    """
    layer = layer.folded()
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


def _bias(layer: Similarity2d) -> Tensor:
    return torch.zeros(len(layer.templates)) if layer.bias is None else layer.bias.detach()


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

    From 257 coordinates on several are treated at a time. Channels lie last: an engine that fuses elementwise
    operators (OpenVINO) takes several coordinates in one pass, with templates side by side in its registers.
    """

    def __init__(self, layer: Similarity2d) -> None:
        super().__init__()
        self.order, self.padding, self.stride = float(layer.order), _sides(layer), layer.stride
        _, self.channels, *self.kernel = layer.templates.shape
        self.size = -(-layer.templates[0].numel() // _COORDINATES)
        self.bias = nn.ParameterList(list(_bias(layer).view(layer.groups, -1)))
        parts = range(-(-self.channels // self.size))
        self.places = list(product(range(layer.groups), parts, *map(range, self.kernel)))
        self.templates = nn.ParameterList(self._columns(layer.templates, layer.groups))
        self.weights = nn.ParameterList(self._columns(-_weights(layer), layer.groups))

    def _columns(self, tensor: Tensor, groups: int) -> Iterator[Tensor]:
        """What belongs to each place (group, part of the channels, row, column of the kernel)."""
        divided = tensor.unflatten(0, (groups, -1))
        for group, part, i, j in self.places:
            column = divided[group, :, part * self.size : (part + 1) * self.size, i, j]
            yield (column[:, 0] if self.size == 1 else column).clone()

    def rescale(self, mean: Tensor, deviation: Tensor) -> None:
        """Give ``(s - mean) / deviation`` from now on, per template, in place of s."""
        means, deviations = (tensor.view(len(self.bias), -1) for tensor in (mean, deviation))
        for group, bias in enumerate(self.bias):
            bias.copy_((bias - means[group]) / deviations[group])
        for (group, *_), weight in zip(self.places, self.weights, strict=True):
            weight /= deviations[group].view(-1, *[1] * (weight.ndim - 1))

    def forward(self, x: Tensor) -> Tensor:
        if any(self.padding):
            x = F.pad(x, self.padding)
        x = x.permute(0, 2, 3, 1)
        groups = x.split(self.channels, 3) if len(self.bias) > 1 else (x,)
        columns = [group.split(self.size, 3) for group in groups]
        sums: list[Tensor] = list(self.bias)
        for (group, part, i, j), template, weight in zip(self.places, self.templates, self.weights, strict=True):
            column = self._under(columns[group][part], i, j)
            if self.size == 1:
                sums[group] = sums[group] + power(column - template, self.order) * weight
            else:
                sums[group] = sums[group] + (power(column.unsqueeze(3) - template, self.order) * weight).sum(4)
        return (sums[0] if len(sums) == 1 else torch.cat(sums, 3)).permute(0, 3, 1, 2)

    def _under(self, x: Tensor, i: int, j: int) -> Tensor:
        """What of x, (N, H, W, C), lies under one coordinate of the receptive fields."""
        if self.kernel == [1, 1] and self.stride == 1:
            return x
        rows, columns = (size - kernel + 1 for size, kernel in zip(x.shape[1:3], self.kernel, strict=True))
        return x[:, i : i + rows : self.stride, j : j + columns : self.stride]


class LpOperator(nn.Module):
    """The same as one operator of simroot's own, ``simroot::LpSimilarity``, which is recorded by torch.onnx alone."""

    templates: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, layer: Similarity2d) -> None:
        super().__init__()
        self.order, self.padding, self.stride, self.groups = (
            float(layer.order),
            _sides(layer),
            layer.stride,
            layer.groups,
        )
        self.register_buffer("templates", layer.templates.detach())
        self.register_buffer("weights", _weights(layer).detach())
        self.register_buffer("bias", _bias(layer))

    def rescale(self, mean: Tensor, deviation: Tensor) -> None:
        """Give ``(s - mean) / deviation`` from now on, per template, in place of s."""
        self.bias.copy_((self.bias - mean) / deviation)
        self.weights /= deviation.view(-1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.padding):
            x = F.pad(x, self.padding)
        if not torch.compiler.is_exporting():
            z, u, step = self.templates, self.weights, self.stride
            return ops.similarity(x, z, u, order=self.order, bias=self.bias, stride=step, groups=self.groups)
        kernel = self.templates.shape[2:]
        lengths = [(size - side) // self.stride + 1 for size, side in zip(x.shape[2:], kernel, strict=True)]
        return torch.onnx.ops.symbolic(
            f"simroot::{OPERATOR}",
            (x, self.templates, self.weights, self.bias),
            {"order": self.order, "stride": self.stride, "groups": self.groups},
            dtype=x.dtype,
            shape=(x.shape[0], len(self.bias), *lengths),
            version=1,
        )


def power(difference: Tensor, order: float) -> Tensor:
    """``|difference|^order``; multiples of one half up to 4 by products and a square root, others by exp and log."""
    size = difference.abs()
    whole, half = divmod(order, 1)
    if order > 4 or half not in (0, 0.5):
        return (order * size.clamp_min(_SMALLEST).log()).exp()
    factors = [size] * int(whole) + [size.sqrt()] * (half == 0.5)
    return reduce(mul, factors)
