"""Channels of one range for convolutions behind convolutions, as ``simroot.export.channels`` has it for ONNX."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from simroot.export.c.interpret import results
from simroot.export.c.layers import WHOLE, Conv, Layer, Pool, readers
from simroot.export.channels import per_input, relative

_SCALED = (WHOLE, (0.0, np.inf))  # what a convolution may clamp to for its scales to pass


def equalise_channels(layers: list[Layer], images: Tensor) -> None:
    """Bring what convolutions read to one range per channel, in place; the scores stay the same."""
    pairs = {place: behind for place in range(len(layers)) if (behind := _behind(layers, place)) is not None}
    scales = {
        place: relative(output.abs().amax((0, 2, 3)).double().numpy())
        for place, output in enumerate(results(layers, images))
        if place in pairs
    }
    for place, behind in pairs.items():
        before, after, scale = layers[place], layers[behind], scales[place]
        assert isinstance(before, Conv)
        assert isinstance(after, Conv)
        before.weight, before.bias = before.weight / scale[:, None, None, None], before.bias / scale
        after.weight = after.weight * per_input(scale, after.groups, len(after.weight))[:, None, None, :]


def _behind(layers: list[Layer], place: int) -> int | None:
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
