"""Fewer layers with the same outputs: normalisations into filters, ReLU into what is before it, orders into weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from simroot.export.c.layers import WHOLE, Affine, Binary, Conv, Floats, Gather, Image, Layer, Lp, Unary, readers


def simplify(layers: list[Layer]) -> list[Layer]:
    """Apply every rule until none applies; the layers given are used up."""
    rules: tuple[Callable[[list[Layer], int], bool], ...] = (
        _plain_gather,
        _gather_into_dense,
        _affine_into_affine,
        _affine_into_conv,
        _pixels_into_conv,
        _clamp_into_layer,
    )
    while any(rule(layers, place) for place in range(len(layers) - 1, 0, -1) for rule in rules if place < len(layers)):
        pass
    return layers


def _remove(layers: list[Layer], place: int) -> None:
    """Take a layer out; who read it reads what it read."""
    source = layers[place].inputs[0]
    del layers[place]
    for layer in layers:
        layer.inputs = tuple(
            (source if one == place else one) - (1 if (source if one == place else one) > place else 0)
            for one in layer.inputs
        )


def _alone(layers: list[Layer], place: int) -> bool:
    """Whether one layer alone reads a layer."""
    return len(readers(layers)[place]) == 1


def _plain_gather(layers: list[Layer], place: int) -> bool:
    layer = layers[place]
    if not isinstance(layer, Gather):
        return False
    source = layers[layer.inputs[0]]
    if layer.is_plain(source) and layer.shape == source.shape:
        _remove(layers, place)
        return True
    if isinstance(source, Gather) and _alone(layers, layer.inputs[0]):
        padded = np.append(source.index, -1)
        layer.index = padded[layer.index]
        _remove(layers, layer.inputs[0])
        return True
    return False


def _gather_into_dense(layers: list[Layer], place: int) -> bool:
    """A dense layer reads numbers in the order in which they are stored."""
    layer = layers[place]
    if not isinstance(layer, Conv | Lp) or layer.groups != 1 or layers[layer.inputs[0]].shape[:2] != (1, 1):
        return False
    source = layers[layer.inputs[0]]
    if not isinstance(source, Gather) or source.is_plain(layers[source.inputs[0]]):
        return False
    before = layers[source.inputs[0]]
    if len(np.unique(source.index)) != source.size or source.size != before.size or source.index.min() < 0:
        return False
    if not _alone(layers, layer.inputs[0]):
        return False
    order = np.argsort(source.index)
    if isinstance(layer, Conv):
        layer.weight = layer.weight[..., order]
    else:
        layer.templates, layer.factors = layer.templates[..., order], layer.factors[..., order]
    source.index = np.arange(source.size)
    return True


def _affine_into_affine(layers: list[Layer], place: int) -> bool:
    layer = layers[place]
    if not isinstance(layer, Affine) or not _alone(layers, layer.inputs[0]):
        return False
    source = layers[layer.inputs[0]]
    if not isinstance(source, Affine) or source.clamp != WHOLE:
        return False
    layer.scale, layer.shift = layer.scale * source.scale, layer.scale * source.shift + layer.shift
    _remove(layers, layer.inputs[0])
    return True


def _affine_into_conv(layers: list[Layer], place: int) -> bool:
    """Behind a convolution alone: into its filters. Before one that does not pad: into its filters, too."""
    layer = layers[place]
    if not isinstance(layer, Affine):
        return False
    source = layers[layer.inputs[0]]
    if isinstance(source, Conv) and source.clamp == WHOLE and _alone(layers, layer.inputs[0]):
        scale, shift = _full(layer.scale, source.shape[2]), _full(layer.shift, source.shape[2])
        source.weight = source.weight * scale[:, None, None, None]
        source.bias = source.bias * scale + shift
        source.clamp, source.name = layer.clamp, source.name or layer.name
        _remove(layers, place)
        return True
    return False


def _pixels_into_conv(layers: list[Layer], place: int) -> bool:
    """The normalisation of pixels: its scale into the filters, its shift into what they subtract."""
    layer = layers[place]
    if not isinstance(layer, Affine) or layer.inputs != (0,) or layer.clamp != WHOLE:
        return False
    image, after = layers[0], [layers[reader] for reader in readers(layers)[place] if reader >= 0]
    assert isinstance(image, Image)
    if not image.pixels or not _alone(layers, 0) or len(after) != len(readers(layers)[place]):
        return False
    if not all(isinstance(one, Conv) and one.groups == 1 and one.window.dilation == (1, 1) for one in after):
        return False
    scale, shift = _full(layer.scale, image.shape[2]), _full(layer.shift, image.shape[2])
    if not scale.all():
        return False
    for one in after:
        assert isinstance(one, Conv)
        one.weight, one.centre = one.weight * scale, -shift / scale
    _remove(layers, place)
    return True


def _clamp_into_layer(layers: list[Layer], place: int) -> bool:
    layer = layers[place]
    if not isinstance(layer, Unary) or (limits := clamp_of(layer)) is None or not _alone(layers, layer.inputs[0]):
        return False
    source = layers[layer.inputs[0]]
    if not isinstance(source, Conv | Lp | Affine | Binary):
        return False
    low, high = source.clamp
    source.clamp = (min(max(low, limits[0]), limits[1]), min(max(high, limits[0]), limits[1]))
    _remove(layers, place)
    return True


def clamp_of(layer: Unary) -> tuple[float, float] | None:
    """The least and the largest result of a function that changes nothing else."""
    if layer.kind == "clamp":
        return layer.values[0], layer.values[1]
    return {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}.get(layer.kind)


def _full(values: Floats, channels: int) -> Floats:
    return np.broadcast_to(values, (channels,))
