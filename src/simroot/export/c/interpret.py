"""The layers computed with PyTorch, in float64: what each gives is known, before and beside any C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from simroot import ops
from simroot.errors import ConfigError
from simroot.export.c.layers import (
    Affine,
    Binary,
    Concat,
    Conv,
    Floats,
    Gather,
    Image,
    Layer,
    Lp,
    Mex,
    Pool,
    Unary,
    Window,
)

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "clamp": torch.clamp,
}
"""Functions of one number that have a C form."""


@torch.inference_mode()
def results(layers: list[Layer], images: Tensor) -> Iterator[Tensor]:
    """The output of each layer in turn, (N, C, H, W) in float64, for images (N, C, H, W)."""
    found: list[Tensor] = []
    last_use = [
        max((place for place, one in enumerate(layers) if k in one.inputs), default=0) for k in range(len(layers))
    ]
    for place, layer in enumerate(layers):
        inputs = [found[source] for source in layer.inputs]
        result = images.double() if isinstance(layer, Image) else _compute(layer, inputs)
        found.append(result)
        for source in layer.inputs:
            if last_use[source] <= place:
                found[source] = torch.empty(0)
        yield result


def scores(layers: list[Layer], images: Tensor) -> Tensor:
    """The last layer's output, (N, classes)."""
    *_, last = results(layers, images)
    return last.flatten(1)


def _compute(layer: Layer, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if isinstance(layer, Conv):
        return _conv(layer, x).clamp(*layer.clamp)
    if isinstance(layer, Lp):
        z, u, b = (_tensor(values) for values in (layer.templates, layer.factors, layer.bias))
        z, u = z.permute(0, 3, 1, 2).contiguous(), u.permute(0, 3, 1, 2).contiguous()
        y = ops.similarity(x, z, u, order=layer.order, bias=b, stride=layer.window.stride, groups=layer.groups)
        return y.clamp(*layer.clamp)
    if isinstance(layer, Mex):
        return ops.mex_dense(x, _tensor(layer.offsets), layer.beta)
    if isinstance(layer, Affine):
        return (x * _column(layer.scale) + _column(layer.shift)).clamp(*layer.clamp)
    if isinstance(layer, Pool):
        return _pool(layer, x)
    if isinstance(layer, Unary):
        return FUNCTIONS[layer.kind](x, *layer.values)
    if isinstance(layer, Binary):
        y = inputs[1]
        return {"add": x + y, "subtract": x - y, "multiply": x * y}[layer.kind].clamp(*layer.clamp)
    if isinstance(layer, Concat):
        return torch.cat(inputs, 1)
    if isinstance(layer, Gather):
        stored = F.pad(x.permute(0, 2, 3, 1).flatten(1), (0, 1))
        return stored[:, torch.from_numpy(layer.index)].unflatten(1, layer.shape).permute(0, 3, 1, 2)
    raise ConfigError(f"{type(layer).__name__} has no C form")


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(values).double()


def _column(values: Floats) -> Tensor:
    return _tensor(values).view(-1, 1, 1)


def _conv(layer: Conv, x: Tensor) -> Tensor:
    if layer.centre is not None:
        x = x - _column(layer.centre)
    weight = _tensor(layer.weight).permute(0, 3, 1, 2)
    x = padded(x, layer.window, layer.shape, 0.0)
    return F.conv2d(x, weight, _tensor(layer.bias), layer.window.stride, 0, layer.window.dilation, layer.groups)


def padded(x: Tensor, window: Window, shape: tuple[int, int, int], value: float) -> Tensor:
    """With as much around the grid as the output's shape tells, which may be less than the grid."""
    sides = []
    for axis in (1, 0):
        reach = (shape[axis] - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1
        before = window.padding[axis]
        sides += [before, reach - before - x.shape[2 + axis]]
    return F.pad(x, sides, value=value)


def _pool(layer: Pool, x: Tensor) -> Tensor:
    reduce: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "max": lambda taps, _: taps.amax(-1),
        "min": lambda taps, _: -taps.amax(-1),
        "average": partial(_average, divisor=layer.divisor),
        "mex": partial(_mex, beta=_tensor(layer.beta)),
    }
    sign = -1.0 if layer.kind == "min" else 1.0
    taps = _taps(padded(sign * x, layer.window, layer.shape, -torch.inf), layer)
    return reduce[layer.kind](taps, taps.isfinite())


def _taps(x: Tensor, layer: Pool) -> Tensor:
    """(N, C, H', W', positions of a window)."""
    (down, right), (step_y, step_x) = layer.window.dilation, layer.window.stride
    height, width, _ = layer.shape
    parts = [
        x[:, :, i * down :: step_y, j * right :: step_x][:, :, :height, :width]
        for i in range(layer.window.kernel[0])
        for j in range(layer.window.kernel[1])
    ]
    return torch.stack(parts, -1)


def _average(taps: Tensor, inside: Tensor, divisor: int) -> Tensor:
    return taps.where(inside, 0.0).sum(-1) / (divisor or inside.sum(-1))


def _mex(taps: Tensor, inside: Tensor, beta: Tensor) -> Tensor:
    b = beta.view(-1, 1, 1, 1)
    mean = taps.where(inside, 0.0).sum(-1, keepdim=True) / inside.sum(-1, keepdim=True)
    exponents = torch.expm1(b * (taps - mean)).where(inside, 0.0)
    far = (b * (taps - mean)).where(inside, -torch.inf)
    count = inside.sum(-1)
    near = torch.log1p(exponents.sum(-1) / count)
    exact = far.logsumexp(-1) - count.double().log()
    total = torch.where(near.abs() < 1, near, exact)
    return torch.where(b[..., 0] == 0, mean[..., 0], mean[..., 0] + total / b[..., 0].where(b[..., 0] != 0, 1.0))
