"""Layers that are computed row by row, each row as soon as what it reads is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simroot.export.c.layers import Affine, Binary, Conv, Layer, Lp, Mex, Pool, Unary, Window


class Reach(NamedTuple):
    """Which rows a layer reads: of row r those from ``r step - padding`` on, so many."""

    rows: int
    step: int
    padding: int


def reach(layer: Layer) -> Reach:
    """Of a layer that is computed by rows."""
    if (window := windowed(layer)) is None:
        return Reach(1, 1, 0)
    return Reach((window.kernel[0] - 1) * window.dilation[0] + 1, window.stride[0], window.padding[0])


def windowed(layer: Layer) -> Window | None:
    """The window of a layer that has one."""
    return layer.window if isinstance(layer, Conv | Lp | Pool) else None


def joinable(layers: Sequence[Layer], before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether the rows of one chain of layers can be made as another, which reads them, needs them."""
    reader, source = layers[after[0]], layers[before[-1]]
    if isinstance(reader, Binary) and len({layers[place].shape for place in reader.inputs}) > 1:
        return False
    kinds = Conv | Lp | Pool | Mex | Unary | Affine | Binary
    by_rows = windowed(layers[before[0]]) is not None and all(
        isinstance(layers[one], kinds) for one in (*before, *after)
    )
    return by_rows and reach(reader).rows < source.shape[0]


def replaceable(layers: Sequence[Layer], chain: Sequence[int], source: int) -> bool:
    """Whether a chain's result may take the place of a layer of its shape that its last one adds to or multiplies.

    Each row is written when no layer of the chain needs a row of the source up to that one any more.
    """
    last = layers[chain[-1]]
    if not isinstance(last, Binary) or layers[source].shape != last.shape or source not in last.inputs:
        return False
    made = [0] * len(chain)

    def make(depth: int, row: int) -> None:
        if depth > 0:
            rows, step, padding = reach(layers[chain[depth]])
            end = min(row * step - padding + rows, layers[chain[depth - 1]].shape[0])
            while made[depth - 1] < end:
                make(depth - 1, made[depth - 1])
        made[depth] = row + 1

    reading = [(depth, layers[place]) for depth, place in enumerate(chain[:-1]) if source in layers[place].inputs]
    for row in range(last.shape[0]):
        make(len(chain) - 1, row)
        for depth, layer in reading:
            _, step, padding = reach(layer)
            if made[depth] < layer.shape[0] and made[depth] * step - padding <= row:
                return False
    return True
