"""The reference of the integer form: every layer in whole numbers, in NumPy; C gives the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from simroot.export.c.integers import ONE, Numbers, Whole, WholeLayer, exp2, log2, mean, rescale
from simroot.export.c.interpret import padded
from simroot.export.c.layers import Affine, Binary, Concat, Conv, Floats, Gather, Image, Lp, Mex, Pool, Unary

# Below it float32 adds whole numbers exactly, in any order. oneDNN multiplies as it is written; others may transform.
_EXACT = 2**24


def results(layers: list[WholeLayer], pixels: Whole) -> Iterator[Whole]:
    """The output of each layer in turn, (N, H, W, C), for pixels (N, H, W, C)."""
    found: list[Whole] = []
    for one in layers:
        inputs = [found[source] for source in one.layer.inputs]
        if isinstance(one.layer, Image):
            found.append(pixels.astype(np.int64))
        else:
            numbers = [layers[source].numbers.zero for source in one.layer.inputs]
            found.append(_RULES[type(one.layer)](one, inputs, numbers))
        yield found[-1]


def scores(layers: list[WholeLayer], pixels: Whole) -> Floats:
    """float32 (N, classes): the last numbers, brought to their scale."""
    *_, last = results(layers, pixels)
    return as_scores(layers[-1].numbers, last)


def as_scores(numbers: Numbers, last: Whole) -> Floats:
    """What the last layer's whole numbers stand for, float32 (N, classes)."""
    found = (last.reshape(len(last), -1) - numbers.zero).astype(np.float32) * np.float32(numbers.scale)
    return found.astype(np.float32)


def _conv(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    layer, c = one.layer, one.constants
    assert isinstance(layer, Conv)
    x = inputs[0] - (c["centre"] if "centre" in c else zeros[0])
    planes = padded(_planes(x), layer.window, layer.shape, 0.0)
    weight = torch.from_numpy(c["weight"]).double().permute(0, 3, 1, 2)
    if torch.backends.mkldnn.is_available() and 255 * float(weight.abs().sum((1, 2, 3)).max()) < _EXACT:
        planes, weight = planes.float(), weight.float()
    window = layer.window
    sums = F.conv2d(planes, weight, None, window.stride, 0, window.dilation, layer.groups)
    return rescale(_numbers(sums) + c["bias"], c["multiplier"], c["shift"], one.numbers.zero, c["low"], c["high"])


def _lp(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    layer, c = one.layer, one.constants
    assert isinstance(layer, Lp)
    sums = _products(one, inputs[0] - zeros[0]) if "fine" not in c else _distances(one, inputs[0] - zeros[0])
    return rescale(c["bias"] - sums, c["multiplier"], c["shift"], c["zero"], c["low"], c["high"])


def _products(one: WholeLayer, x: Whole) -> Whole:
    """Sums of ``x (A x + B)`` for p = 2, by convolutions."""
    layer, c = one.layer, one.constants
    assert isinstance(layer, Lp)
    planes, window = _planes(x), layer.window
    square, linear = (torch.from_numpy(c[name]).double().permute(0, 3, 1, 2) for name in ("factors", "templates"))
    sums = F.conv2d(planes.square(), square, None, window.stride, 0, window.dilation, layer.groups)
    return _numbers(sums + F.conv2d(planes, linear, None, window.stride, 0, window.dilation, layer.groups))


def _distances(one: WholeLayer, x: Whole) -> Whole:
    """Sums of weights times powers of differences."""
    layer, c = one.layer, one.constants
    assert isinstance(layer, Lp)
    (kh, kw), (sy, sx) = layer.window.kernel, layer.window.stride
    height, width, units = layer.shape
    per_group, depth = units // layer.groups, layer.templates.shape[3]
    sums = np.zeros((len(x), height, width, units), dtype=np.int64)
    for i in range(kh):
        for j in range(kw):
            tap = x[:, i : i + (height - 1) * sy + 1 : sy, j : j + (width - 1) * sx + 1 : sx]
            for unit in range(units):
                first = unit // per_group * depth
                seen, template = tap[..., first : first + depth], c["templates"][unit, i, j]
                sums[..., unit] += _terms(seen, template, c["factors"][unit, i, j], c).sum(-1)
    return sums


def _terms(x: Whole, template: Whole, factor: Whole, c: dict[str, Any]) -> Whole:
    """Terms of an l_p sum: a weight times a difference, or times a table's entry for it.

    The table has 257 entries, with straight lines between.
    """
    away = np.abs((x << c["fine"]) - template)
    if "table" not in c:
        return away * factor
    index, part = away >> c["coarse"], away & ((1 << c["coarse"]) - 1)
    table: Whole = c["table"]
    return (table[index] + ((table[index + 1] - table[index]) * part >> c["coarse"])) * factor


def _mex(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    c = one.constants
    offsets, x = c["offsets"], inputs[0]
    found = np.empty((*x.shape[:3], len(offsets)), dtype=np.int64)
    for unit, row in enumerate(offsets):
        terms = x + row
        top = terms.max(-1)
        total = exp2((top[..., None] - terms) << 4).sum(-1)
        found[..., unit] = top + c["moved"] + ((log2(total) - c["count"] + 8) >> 4)
    return np.clip(found, -32768, 32767)


def _affine(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    c = one.constants
    return rescale(inputs[0] - c["zero"], c["multiplier"], c["shift"], c["bias"], c["low"], c["high"])


def _pool(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    layer = one.layer
    assert isinstance(layer, Pool)
    (down, right), (step_y, step_x) = layer.window.dilation, layer.window.stride
    height, width, _ = layer.shape
    x = padded(_planes(inputs[0]), layer.window, layer.shape, float("nan")).numpy()
    parts = [
        x[:, :, i * down :: step_y, j * right :: step_x][:, :, :height, :width]
        for i in range(layer.window.kernel[0])
        for j in range(layer.window.kernel[1])
    ]
    taps = np.stack(parts, -1).transpose(0, 2, 3, 1, 4)
    if layer.kind in ("max", "min"):
        return (np.nanmax if layer.kind == "max" else np.nanmin)(taps, -1).astype(np.int64)
    inside = ~np.isnan(taps)
    whole, count = np.where(inside, taps, 0).astype(np.int64), inside.sum(-1)
    if layer.kind == "mex":
        return _pool_mex(one, whole, inside)
    total = whole.sum(-1)
    return (
        mean(total + (layer.divisor - count) * zeros[0], np.full_like(count, layer.divisor))
        if layer.divisor
        else mean(total, count)
    )


def _pool_mex(one: WholeLayer, taps: Whole, inside: np.ndarray) -> Whole:
    c = one.constants
    sign = c["signs"][:, None]
    far = np.iinfo(np.int64).min // 2
    peak = sign * np.where(inside, sign * taps, far).max(-1, keepdims=True)
    below = np.where(inside, sign * (peak - taps), 0)
    t = rescale(below, c["multiplier"][:, None], c["shift"][:, None], 0, 0, ONE)
    total = np.where(inside, exp2(t), 0).sum(-1)
    found = log2(total) - log2(inside.sum(-1) * ONE)
    back = rescale(found, c["multiplier_back"], c["shift_back"], 0, -65535, 0)
    return np.clip(peak[..., 0] + c["signs"] * back, *one.numbers.limits)


def _unary(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    table: Whole = one.constants["table"]
    return table[inputs[0] + 128]


def _binary(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    c, (a, b) = one.constants, inputs
    a, b = a - zeros[0], b - zeros[1]
    value = a * b if "multiplier" in c else a * c["factors"][0] + b * c["factors"][1]
    return rescale(value, c.get("multiplier", 1), c["shift"], one.numbers.zero, c["low"], c["high"])


def _concat(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    return np.concatenate(inputs, -1)


def _gather(one: WholeLayer, inputs: list[Whole], zeros: list[int]) -> Whole:
    assert isinstance(one.layer, Gather)
    flat = inputs[0].reshape(len(inputs[0]), -1)
    stored = np.append(flat, np.full((len(flat), 1), zeros[0]), 1)
    return stored[:, one.layer.index].reshape(len(flat), *one.layer.shape)


def _planes(x: Whole) -> Tensor:
    return torch.from_numpy(x).double().permute(0, 3, 1, 2)


def _numbers(x: Tensor) -> Whole:
    return x.permute(0, 2, 3, 1).round().long().numpy()


_RULES: dict[type, Callable[[WholeLayer, list[Whole], list[int]], Whole]] = {
    Conv: _conv,
    Lp: _lp,
    Mex: _mex,
    Affine: _affine,
    Pool: _pool,
    Unary: _unary,
    Binary: _binary,
    Concat: _concat,
    Gather: _gather,
}
