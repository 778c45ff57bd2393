"""From layers in float to layers in whole numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from simroot.errors import ConfigError
from simroot.export.c.channels import channel_ranges, conv_behind, equalise_channels
from simroot.export.c.integers import FINE, Numbers, Whole, WholeLayer, factors
from simroot.export.c.interpret import FUNCTIONS, results, scores
from simroot.export.c.layers import (
    WHOLE,
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
    readers,
)
from simroot.export.c.ranges import Ranges, add_to_scores, numbers_now, numbers_of
from simroot.export.c.whole import scores as whole_scores

_LARGEST_SUM = 2**30
_MOST_TERMS = 4095


def quantise(layers: list[Layer], images: Tensor) -> list[WholeLayer]:
    """The network in whole numbers.

    Args:
        layers: simplified, the image's normalisation included; they are used up.
        images: for the calibration, (N, C, H, W), pixels.

    Raises:
        ConfigError: for a layer or an order of layers that has no integer form.
    """
    return in_integers(layers, calibrate(layers, images))


def calibrate(layers: list[Layer], images: Tensor) -> Ranges:
    """What images show of a network's simplified layers, which stay as they are.

    Raises:
        ConfigError: as ``quantise``.
    """
    given, layers = layers, copy.deepcopy(layers)
    _require_pixels(layers)
    split_mex(layers)
    similarities = deviations(layers, images)
    equalise(layers, similarities)
    channels = channel_ranges(layers, images)
    equalise_channels(layers, channels)
    ranges = Ranges(similarities, channels, numbers_of(layers, images))
    whole = in_integers(copy.deepcopy(given), ranges)
    lost = scores(layers, images).numpy() - whole_scores(whole, images.permute(0, 2, 3, 1).numpy())
    return replace(ranges, scores=tuple(lost.mean(0).tolist()))


def in_integers(layers: list[Layer], ranges: Ranges) -> list[WholeLayer]:
    """The network in whole numbers that have these ranges; as ``quantise``."""
    _require_pixels(layers)
    split_mex(layers)
    _require_fitting(layers, ranges)
    numbers = numbers_now(layers, ranges.numbers)
    equalise(layers, ranges.similarities)
    equalise_channels(layers, ranges.channels)
    if ranges.scores:
        add_to_scores(layers, np.array(ranges.scores))
    numbers[0] = Numbers(1.0, 0, 16)  # pixels as they are
    for layer in layers:
        wide = [source for source in layer.inputs if source and numbers[source].bits == 16]
        if wide and not isinstance(layer, Mex | Pool | Gather | Concat):
            raise ConfigError(f"{layer.name or 'a layer'} reads what a MEX unit gives, which has no integer form")
        if isinstance(layer, Gather) and layer.inputs == (0,):
            raise ConfigError("pixels in another order have no integer form")
    rules: dict[type, Callable[[Layer, Numbers, list[Numbers]], dict[str, object]]] = {
        Conv: _conv,
        Lp: _lp,
        Mex: _mex,
        Affine: _affine,
        Pool: _pool,
        Unary: _unary,
        Binary: _binary,
    }
    found = []
    for layer, own in zip(layers, numbers, strict=True):
        rule = rules.get(type(layer))
        try:
            constants = {} if rule is None else rule(layer, own, [numbers[source] for source in layer.inputs])
            found.append(WholeLayer(layer, own, constants))
        except OverflowError as error:
            raise ConfigError(f"{layer.name or type(layer).__name__} has no integer form: {error}") from error
    return found


def _require_pixels(layers: list[Layer]) -> None:
    image = layers[0]
    if not isinstance(image, Image) or not image.pixels:
        raise ConfigError("integers need a network of pixels: give its mean and std")


def _require_fitting(layers: list[Layer], ranges: Ranges) -> None:
    places = range(len(layers))
    similarities = {k: layers[k].shape[2] for k in places if _similarity_before(layers, k) is not None}
    channels = {k: layers[k].shape[2] for k in places if conv_behind(layers, k) is not None}
    fits = len(ranges.numbers) == len(layers) and all(len(m) == len(d) for m, d in ranges.similarities.values())
    fits &= len(ranges.scores) in (0, layers[-1].size)
    fits &= similarities == {k: len(mean) for k, (mean, _) in ranges.similarities.items()}
    if not fits or channels != {k: len(scale) for k, scale in ranges.channels.items()}:
        raise ConfigError("the ranges of activations are those of another network; calibrate anew")


def split_mex(layers: list[Layer]) -> None:
    """What the offsets of a MEX unit's channels have in common goes to what it reads, in place."""
    for place in range(len(layers) - 1, 0, -1):
        layer = layers[place]
        if not isinstance(layer, Mex):
            continue
        common = layer.offsets.mean(0)
        layer.offsets = layer.offsets - common
        source = layers[layer.inputs[0]]
        alone = len(readers(layers)[layer.inputs[0]]) == 1
        if isinstance(source, Conv | Lp) and source.clamp == WHOLE and alone:
            source.bias = source.bias + common
            continue
        for later in layers[place:]:
            later.inputs = tuple(one + (one >= place) for one in later.inputs)
        channels = len(common)
        shape = layers[layer.inputs[0]].shape
        layers.insert(place, Affine(layer.name, layer.inputs, shape, scale=np.ones(channels), shift=common))
        layer.inputs = (place,)


def deviations(layers: list[Layer], images: Tensor) -> dict[int, tuple[Floats, Floats]]:
    """By the place of each similarity that a convolution reads, means and deviations of its templates."""
    found = {}
    for place, output in enumerate(results(layers, images)):
        if (behind := _similarity_before(layers, place)) is not None:
            conv = layers[behind]
            assert isinstance(conv, Conv)
            mean, deviation = (one.numpy() for one in (output.mean((0, 2, 3)), output.std((0, 2, 3), correction=0)))
            if _pads(layers, conv):
                mean = np.zeros_like(mean)
            found[place] = (mean, np.where(deviation > 1e-6, deviation, 1.0))
    return found


def equalise(layers: list[Layer], ranges: Mapping[int, tuple[Floats, Floats]]) -> None:
    """Similarities that a convolution reads, maybe pooled, are brought to one mean and deviation, in place."""
    for place, (mean, deviation) in ranges.items():
        behind = _similarity_before(layers, place)
        assert behind is not None
        lp, conv = layers[place], layers[behind]
        assert isinstance(lp, Lp)
        assert isinstance(conv, Conv)
        lp.factors, lp.bias = lp.factors / deviation[:, None, None, None], (lp.bias - mean) / deviation
        conv.bias = conv.bias + (conv.weight * mean).sum((1, 2, 3))
        conv.weight = conv.weight * deviation


def _similarity_before(layers: list[Layer], place: int) -> int | None:
    if not isinstance(layers[place], Lp) or layers[place].clamp != WHOLE:  # type: ignore[attr-defined]
        return None
    while True:
        after = readers(layers)[place]
        if len(after) != 1 or after[0] < 0:
            return None
        place = after[0]
        layer = layers[place]
        if isinstance(layer, Conv):
            return place if layer.groups == 1 else None
        if not isinstance(layer, Pool) or layer.kind == "mex" or layer.divisor:
            return None


def _pads(layers: list[Layer], conv: Conv) -> bool:
    height, width, _ = layers[conv.inputs[0]].shape
    window, shape = conv.window, conv.shape
    reach = [
        (shape[axis] - 1) * window.stride[axis]
        + (window.kernel[axis] - 1) * window.dilation[axis]
        + 1
        - window.padding[axis]
        for axis in range(2)
    ]
    return any(window.padding) or reach[0] > height or reach[1] > width


def _conv(layer: Layer, own: Numbers, read: list[Numbers]) -> dict[str, object]:
    assert isinstance(layer, Conv)
    largest = np.abs(layer.weight).max((1, 2, 3))
    scale = np.where(largest > 0, largest, 1.0) / 127
    weight = np.rint(layer.weight / scale[:, None, None, None]).astype(np.int64)
    found: dict[str, object] = {"weight": weight}
    bias = layer.bias / (scale * read[0].scale)
    if layer.centre is not None:
        centre = np.clip(np.rint(layer.centre), 0, 255).astype(np.int64)
        bias = bias + (weight * (centre - layer.centre)).sum((1, 2, 3))
        found["centre"] = centre
    found["bias"] = _fitting(bias)
    found["multiplier"], found["shift"] = factors(scale * read[0].scale / own.scale)
    found["low"], found["high"] = own.clamped(layer.clamp)
    return found


def _fitting(bias: Floats) -> Whole:
    if np.abs(bias).max() >= _LARGEST_SUM:
        raise OverflowError("a bias outweighs all that the weights can add up to")
    return np.rint(bias).astype(np.int64)


def _lp(layer: Layer, own: Numbers, read: list[Numbers]) -> dict[str, object]:
    """p = 2 as products ``x (A x + B)``, others as differences; A, B, templates and weights in 16 bits."""
    assert isinstance(layer, Lp)
    step = read[0].scale
    furthest = max(abs(end - read[0].zero) for end in read[0].limits)
    found: dict[str, object] = {}
    if layer.order == 2:
        square, linear = layer.factors * step**2, -2 * layer.factors * layer.templates * step
        constant = (layer.factors * layer.templates**2).sum((1, 2, 3))
        worst = ((np.abs(square) * furthest + np.abs(linear)) * furthest).sum((1, 2, 3))
        unit = _unit(worst, np.maximum(np.abs(square), np.abs(linear)).max((1, 2, 3)))
        found["factors"], found["templates"] = _whole(square, unit), _whole(linear, unit)
    else:
        constant = np.zeros(len(layer.bias))
        reach = max(float(np.abs(layer.templates).max()) / step, 1.0)
        fine = int(np.clip(np.floor(np.log2(32767 / max(reach, furthest))), 0, 4))
        templates = found["templates"] = np.rint(layer.templates * 2**fine / step).astype(np.int64)
        if np.abs(templates).max() > 32767:
            raise OverflowError("templates are further from what is seen than 16 bits reach")
        most, found["fine"] = int(np.abs(templates).max()) + furthest * 2**fine, fine
        if layer.order == 1:
            value, power_unit = float(most), step / 2**fine
        else:
            coarse = found["coarse"] = max(int(np.ceil(np.log2((most + 1) / 256))), 0)
            ends = (np.arange(257) * 2.0**coarse) ** layer.order
            power_unit = (step / 2**fine) ** layer.order * ends[-1] / 65535
            found["table"], value = np.rint(ends / ends[-1] * 65535).astype(np.int64), 65535.0
        real = layer.factors * power_unit
        unit = _unit((real * value).sum((1, 2, 3)), real.max((1, 2, 3)))
        found["factors"] = _whole(real, unit)
    # What is added: whole steps of the result behind the scale, the rest before it.
    added = (layer.bias - constant) / own.scale
    steps = np.rint(added)
    found["zero"] = _fitting(steps) + own.zero
    found["bias"] = _fitting((added - steps) * own.scale / unit)
    found["multiplier"], found["shift"] = factors(unit / own.scale)
    found["low"], found["high"] = own.clamped(layer.clamp)
    return found


def _unit(worst: Floats, largest: Floats) -> Floats:
    """What one step of a sum stands for: sums fit into 31 bits with room, factors into 16."""
    return np.maximum(np.maximum(worst / (0.9 * _LARGEST_SUM), largest / 32767), 1e-30)


def _whole(values: Floats, unit: Floats) -> Whole:
    return np.rint(values / unit[:, None, None, None]).astype(np.int64)


def _mex(layer: Layer, own: Numbers, read: list[Numbers]) -> dict[str, object]:
    assert isinstance(layer, Mex)
    channels = layer.offsets.shape[1]
    if channels > _MOST_TERMS:
        raise OverflowError(f"MEX over {channels} channels; at most {_MOST_TERMS} fit")
    offsets = np.clip(np.rint(layer.offsets / own.scale), -32768, 32767).astype(np.int64)
    count = round(FINE * float(np.log2(channels))) + 20 * FINE
    return {"offsets": offsets, "count": count, "moved": own.zero - read[0].zero}


def _affine(layer: Layer, own: Numbers, read: list[Numbers]) -> dict[str, object]:
    assert isinstance(layer, Affine)
    channels = layer.shape[2]
    scale, shift = (np.broadcast_to(values, (channels,)) for values in (layer.scale, layer.shift))
    multiplier, places = factors(scale * read[0].scale / own.scale)
    low, high = own.clamped(layer.clamp)
    bias = _fitting(shift / own.scale) + own.zero
    return {"multiplier": multiplier, "shift": places, "bias": bias, "zero": read[0].zero, "low": low, "high": high}


def _pool(layer: Layer, own: Numbers, read: list[Numbers]) -> dict[str, object]:
    assert isinstance(layer, Pool)
    if layer.kind != "mex":
        return {}
    if int(np.prod(layer.window.kernel)) > _MOST_TERMS:
        raise OverflowError(f"MEX over windows of {layer.window.kernel}; at most {_MOST_TERMS} positions fit")
    beta = np.broadcast_to(layer.beta, (layer.shape[2],))
    # Below it MEX is the average to within a fraction of a step, which a larger beta gives as well.
    least = np.log(2) / (FINE * own.scale) / 64
    size = np.maximum(np.abs(beta), least)
    octaves = size * own.scale / np.log(2) * FINE
    multiplier, shift = factors(octaves)
    multiplier_back, shift_back = factors(1 / octaves)
    signs = np.where(beta < 0, -1, 1)
    return {
        "signs": signs,
        "multiplier": multiplier,
        "shift": shift,
        "multiplier_back": multiplier_back,
        "shift_back": shift_back,
    }


def _unary(layer: Layer, own: Numbers, read: list[Numbers]) -> dict[str, object]:
    assert isinstance(layer, Unary)
    inputs = read[0].scale * (np.arange(-128, 128) - read[0].zero)
    outputs = FUNCTIONS[layer.kind](torch.from_numpy(inputs), *layer.values).numpy()
    return {"table": own.quantised(outputs)}


def _binary(layer: Layer, own: Numbers, read: list[Numbers]) -> dict[str, object]:
    assert isinstance(layer, Binary)
    low, high = own.clamped(layer.clamp)
    found: dict[str, object] = {"low": low, "high": high}
    if layer.kind == "multiply":
        multiplier, shift = factors(np.array(read[0].scale * read[1].scale / own.scale))
        return found | {"multiplier": int(multiplier[0]), "shift": int(shift[0])}
    sign = -1 if layer.kind == "subtract" else 1
    real = np.array([read[0].scale, sign * read[1].scale]) / own.scale
    places = int(np.clip(20 - np.frexp(np.abs(real).max())[1], 1, 40))
    return found | {"factors": np.rint(real * 2.0**places).astype(np.int64), "shift": places}
