"""What becomes of each operator in a recorded graph: a layer, another order of numbers, or a constant."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from simroot.borrowed.from_torch import OpOverload
from simroot.errors import ConfigError
from simroot.export.c.capture import Recording, View, array, numbers, window
from simroot.export.c.layers import Affine, Binary, Concat, Conv, Floats, Lp, Mex, Pool, Unary
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, Similarity2d

Build = Callable[..., View]

OPERATORS: dict[str, Build] = {}
"""By the operator's name in ATen without a trailing underscore: from a recording, PyTorch's output shape and the
operator's arguments to what it gives."""

# They only move numbers: their effect is found by letting them move places.
# fmt: off
_MOVES = {
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "slice", "select", "split",
    "split_with_sizes", "chunk", "unsqueeze", "squeeze", "expand", "contiguous", "clone", "detach", "alias", "flip",
    "roll", "index_select", "narrow", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle",
    "movedim", "lift_fresh_copy", "view_as", "reshape_as", "unbind", "swapaxes",
}
# fmt: on
_NOTHING = {"dropout", "feature_dropout", "alpha_dropout", "to", "_to_copy", "identity", "float"}


def call(
    recording: Recording, node: Any, args: Sequence[Any], kwargs: dict[str, Any], *, marks: list[nn.Module]
) -> Any:
    """What a node gives: a constant, or a view of a layer.

    Raises:
        ConfigError: for an operator without a C form.
    """
    views = [one for one in _flat((args, kwargs)) if isinstance(one, View)]
    if not views or node.target is operator.getitem:
        return node.target(*args, **kwargs)
    name = _name(node.target)
    if name in _NOTHING:
        return args[0]
    if name in _MOVES or (name in ("pad", "constant_pad_nd") and _pads_zeros(name, args, kwargs)):
        return _move(node.target, name, args, kwargs)
    made = node.meta["val"]
    shape = [int(length) for length in made.shape] if isinstance(made, Tensor) else []
    if name == "layer":
        return _layer(recording, marks[args[1]], args[0], shape)
    if name not in OPERATORS:
        raise ConfigError(f"{name} of layer {recording.module or 'the network'} has no C form")
    try:
        return OPERATORS[name](recording, shape, *args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{name} of layer {recording.module or 'the network'} has no C form: {error}") from error


def _name(target: Any) -> str:
    packet = target.overloadpacket.__name__ if isinstance(target, OpOverload) else str(target)
    return packet if packet.startswith("_") else packet.rstrip("_")


def _flat(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return _flat(list(values.values()))
    if isinstance(values, list | tuple):
        return [leaf for value in values for leaf in _flat(value)]
    return [values]


def _pads_zeros(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    rest = list(args[2:])
    mode = rest.pop(0) if name == "pad" and rest else kwargs.get("mode", "constant")
    value = rest[0] if rest else kwargs.get("value")
    return mode != "constant" or not value


def _move(target: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    view = args[0]
    if name in ("pad", "constant_pad_nd"):
        constant = name != "pad" or (list(args[2:3]) or [kwargs.get("mode", "constant")])[0] == "constant"
        moved = (
            nn.functional.pad(view.index, args[1], value=-1)
            if constant
            else target(view.index.double(), *args[1:], **kwargs).long()
        )
    else:
        moved = target(view.index, *args[1:], **kwargs)
    return View(view.layer, moved) if isinstance(moved, Tensor) else [View(view.layer, part) for part in moved]


def _operator(*names: str) -> Callable[[Build], Build]:
    def decorate(build: Build) -> Build:
        OPERATORS.update(dict.fromkeys(names, build))
        return build

    return decorate


def _layer(recording: Recording, layer: nn.Module, x: View, shape: list[int]) -> View:
    """A layer of ``simroot.layers``."""
    if isinstance(layer, Similarity2d):
        return _similarity(recording, layer, x, shape)
    if isinstance(layer, MexDense):
        layer = layer.folded()
        return recording.add(Mex, [x], shape, offsets=array(layer.offsets), beta=float(layer.beta))
    assert isinstance(layer, MexPool2d | GlobalMexPool2d)
    layer = layer.folded()
    beta = numbers(layer.beta).reshape(-1)
    if np.isnan(beta).any() or (np.isinf(beta).any() and beta.size > 1):
        raise ConfigError(f"beta of {layer} is {beta.tolist()}; expected finite numbers, or one that is infinite")
    if isinstance(layer, GlobalMexPool2d):
        where = window(list(x.index.shape[2:]), 1, 0)
    else:
        where = window(layer.kernel_size, layer.stride, layer.padding)
    kind = (
        "mex"
        if np.isfinite(beta).all() and beta.any()
        else "average"
        if not beta.any()
        else "max"
        if beta[0] > 0
        else "min"
    )
    return recording.add(Pool, [x], shape, kind=kind, window=where, beta=beta)


def _similarity(recording: Recording, layer: Similarity2d, x: View, shape: list[int]) -> View:
    layer = layer.folded()
    order, pad = float(layer.order), layer.padding
    templates = array(layer.templates).transpose(0, 2, 3, 1)
    factors = np.ones_like(templates) if layer.weights is None else array(layer.weights).transpose(0, 2, 3, 1)
    bias = np.zeros(len(templates)) if layer.bias is None else array(layer.bias)
    options: dict[str, Any] = {"bias": bias, "groups": layer.groups}
    kernel = list(layer.templates.shape[2:])
    if layer.kind == "linear":
        where = window(kernel, layer.stride, pad)
        return recording.add(Conv, [x], shape, weight=templates * factors, window=where, **options)
    if not 0 < order < math.inf:
        raise ConfigError(f"a similarity has order {order}; expected a positive finite number")
    if pad:  # padded coordinates are zeros, which a similarity sees
        x = View(x.layer, nn.functional.pad(x.index, (pad,) * 4, value=-1))
    where = window(kernel, layer.stride, 0)
    return recording.add(Lp, [x], shape, templates=templates, factors=factors, order=order, window=where, **options)


@_operator("conv2d", "convolution")
def _conv(
    recording: Recording,
    shape: list[int],
    x: View,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    *rest: Any,
) -> View:
    groups = rest[-1] if rest else 1
    if len(rest) == 3 and rest[0]:
        raise ConfigError(f"the transposed convolution {recording.module} has no C form")
    if isinstance(padding, str):
        raise ConfigError(f"the padding {padding!r} of layer {recording.module} has no C form; give a number")
    options = {
        "weight": array(weight).transpose(0, 2, 3, 1),
        "bias": np.zeros(len(weight)) if bias is None else array(bias),
        "window": window(list(weight.shape[2:]), stride, padding, dilation),
        "groups": int(groups),
    }
    return recording.add(Conv, [x], shape, **options)


@_operator("linear")
def _linear(recording: Recording, shape: list[int], x: View, weight: Tensor, bias: Tensor | None = None) -> View:
    if x.index.ndim != 2:
        raise ConfigError(f"the dense layer {recording.module} reads {tuple(x.index.shape)}; C is written for vectors")
    zeros = np.zeros(len(weight)) if bias is None else array(bias)
    return recording.add(Conv, [x], shape, weight=array(weight)[:, None, None], bias=zeros)


@_operator("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _norm(
    recording: Recording,
    shape: list[int],
    x: View,
    gain: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    *rest: Any,
) -> View:
    scale = 1 / np.sqrt(array(var) + eps)
    scale = scale if gain is None else scale * array(gain)
    moved = -array(mean) * scale + (0 if shift is None else array(shift))
    return recording.add(Affine, [x], shape, scale=scale, shift=moved)


@_operator("max_pool2d")
def _max_pool(
    recording: Recording,
    shape: list[int],
    x: View,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> View:
    return recording.add(Pool, [x], shape, kind="max", window=window(kernel, stride, padding, dilation))


@_operator("avg_pool2d")
def _average_pool(
    recording: Recording,
    shape: list[int],
    x: View,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> View:
    where = window(kernel, stride, padding)
    padded = count_include_pad and any(where.padding)
    if padded and ceil_mode:
        raise ConfigError(f"the pooling {recording.module} counts padding and rounds up, which has no C form")
    whole = math.prod(where.kernel) if padded else 0
    return recording.add(Pool, [x], shape, kind="average", window=where, divisor=divisor or whole)


@_operator("adaptive_avg_pool2d")
def _adaptive(recording: Recording, shape: list[int], x: View, size: Any) -> View:
    sides, wanted = x.index.shape[2:], shape[2:]
    if not any(out % side for side, out in zip(sides, wanted, strict=True)):  # every output is one of the inputs
        down, right = (out // side for side, out in zip(sides, wanted, strict=True))
        return View(x.layer, x.index.repeat_interleave(down, 2).repeat_interleave(right, 3))
    if any(side % out for side, out in zip(sides, wanted, strict=True)):
        raise ConfigError(
            f"the pooling {recording.module} divides {tuple(sides)} into {tuple(wanted)} unequal windows, which has no "
            "C form; choose an image size that it divides evenly"
        )
    steps = [side // out for side, out in zip(sides, wanted, strict=True)]
    return recording.add(Pool, [x], shape, kind="average", window=window(steps, steps, 0))


@_operator("mean")
def _reduce(
    recording: Recording, shape: list[int], x: View, dims: Any = (), keepdim: bool = False, **rest: Any
) -> View:
    axes = sorted(axis % x.index.ndim for axis in ([dims] if isinstance(dims, int) else dims))
    if axes != [2, 3] or x.index.ndim != 4:
        raise ConfigError(
            f"layer {recording.module or 'the network'} reduces axes {axes}; C is written for height and width"
        )
    sides = list(x.index.shape[2:])
    return recording.add(Pool, [x], shape, kind="average", window=window(sides, sides, 0))


def _unary(*names: str) -> None:
    for name in names:

        def build(recording: Recording, shape: list[int], x: View, *values: Any, kind: str = name, **rest: Any) -> View:
            return recording.add(Unary, [x], shape, kind=kind, values=tuple(float(value) for value in values))

        OPERATORS[name] = build


_unary("relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "silu", "tanh")


@_operator("leaky_relu")
def _leaky(recording: Recording, shape: list[int], x: View, slope: float = 0.01) -> View:
    return recording.add(Unary, [x], shape, kind="leaky_relu", values=(float(slope),))


@_operator("hardtanh")
def _hardtanh(recording: Recording, shape: list[int], x: View, low: float = -1.0, high: float = 1.0) -> View:
    return _clamp(recording, shape, x, low, high)


@_operator("clamp")
def _clamp(recording: Recording, shape: list[int], x: View, low: Any = None, high: Any = None) -> View:
    values = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    return recording.add(Unary, [x], shape, kind="clamp", values=values)


def _binary(kind: str) -> Build:
    def build(recording: Recording, shape: list[int], a: Any, b: Any = 1.0, *, alpha: float = 1) -> View:
        if isinstance(a, View) and isinstance(b, View):
            if kind == "divide" or alpha != 1:
                raise ConfigError(f"a {kind} of two activations in layer {recording.module} has no C form")
            a, b = (b, a) if b.index.numel() > a.index.numel() and kind != "subtract" else (a, b)
            whole, part = tuple(a.index.shape), tuple(b.index.shape)
            if tuple(shape) != whole or (part != whole and part != (*whole[:2], *[1] * (len(whole) - 2))):
                raise ConfigError(f"a {kind} of {whole} and {part} in layer {recording.module} has no C form")
            return recording.add(Binary, [a, b], shape, kind=kind)
        view, constant = (a, b) if isinstance(a, View) else (b, a)
        scale, shift = _as_affine(kind, numbers(constant), alpha, reverse=view is b)
        channels = shape[1]
        options = {"scale": _per_channel(scale, channels, shape), "shift": _per_channel(shift, channels, shape)}
        return recording.add(Affine, [view], shape, **options)

    return build


def _as_affine(kind: str, constant: Floats, alpha: float, *, reverse: bool) -> tuple[Floats, Floats]:
    one, zero = np.ones(1), np.zeros(1)
    if kind == "multiply":
        return constant, zero
    if kind == "divide":
        if reverse:
            raise ConfigError("a constant divided by an activation has no C form")
        return 1 / constant, zero
    sign = -1.0 if kind == "subtract" else 1.0
    return (one * sign, constant * one) if reverse else (one, sign * alpha * constant)


def _per_channel(values: Floats, channels: int, shape: list[int]) -> Floats:
    aligned = (
        values.reshape([1] * (len(shape) - values.ndim) + list(values.shape)) if values.ndim <= len(shape) else values
    )
    if aligned.ndim != len(shape) or any(side != 1 for axis, side in enumerate(aligned.shape) if axis != 1):
        raise ConfigError(f"a constant of shape {values.shape} meets an activation {tuple(shape)}, which has no C form")
    return np.broadcast_to(aligned.reshape(-1), (channels,)).copy()


OPERATORS.update(add=_binary("add"), sub=_binary("subtract"), mul=_binary("multiply"), div=_binary("divide"))


@_operator("neg")
def _negative(recording: Recording, shape: list[int], x: View) -> View:
    return _binary("multiply")(recording, shape, x, -1.0)


@_operator("cat", "concat", "concatenate")
def _concat(recording: Recording, shape: list[int], parts: Sequence[View], dim: int = 0) -> View:
    if dim % len(shape) != 1 or not all(isinstance(part, View) for part in parts):
        raise ConfigError(
            f"layer {recording.module} joins along axis {dim} or with constants; C is written for channels"
        )
    return recording.add(Concat, parts, shape)
