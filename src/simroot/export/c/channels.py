"""Channels of one range for convolutions behind convolutions, as ``simroot.export.channels`` has it for ONNX."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simroot.export.c.interpret import results
from simroot.export.c.layers import WHOLE, Conv, Layer, Pool, readers
from simroot.export.channels import per_input, relative

_SCALED = (WHOLE, (0.0, np.inf))  # what a convolution may clamp to for its scales to pass


def channel_ranges(layers: list[Layer], images: Tensor) -> dict[int, NDArray[np.float64]]:
    """By the place of each convolution that another reads, the ranges of its channels, relative to one another."""
    return {
        place: relative(output.abs().amax((0, 2, 3)).double().numpy())
        for place, output in enumerate(results(layers, images))
        if conv_behind(layers, place) is not None
    }


def equalise_channels(layers: list[Layer], ranges: Mapping[int, NDArray[np.float64]]) -> None:
    """Bring what convolutions read to one range per channel, in place; the scores stay the same."""
    for place, scale in ranges.items():
        behind = conv_behind(layers, place)
        assert behind is not None
        before, after = layers[place], layers[behind]
        assert isinstance(before, Conv)
        assert isinstance(after, Conv)
        before.weight, before.bias = before.weight / scale[:, None, None, None], before.bias / scale
        after.weight = after.weight * per_input(scale, after.groups, len(after.weight))[:, None, None, :]


def conv_behind(layers: list[Layer], place: int) -> int | None:
    """The convolution that alone reads another, maybe pooled."""
    layer = layers[place]
    if not isinstance(layer, Conv) or layer.clamp not in _SCALED:
        return None
    while len(after := readers(layers)[place]) == 1 and after[0] >= 0:
        place = after[0]
        behind = layers[place]
        if isinstance(behind, Conv):
            return place if behind.weight.shape[3] * behind.groups == layer.shape[2] else None
        if not isinstance(behind, Pool) or behind.kind == "mex":
            return None
    return None
