"""Convolutions and similarities in integers, eight filters side by side: what ``kernels/i8/wide_filters.c`` becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simroot.export.c.integers import Whole, WholeLayer
from simroot.export.c.layers import Conv, Lp, Window
from simroot.export.c.text import kernel

PLANE = 1024
"""Columns, of four rows each, that a row of results of a depthwise convolution may read."""

_ROOM = 16_384  # bytes of the rows that some results read
_HALF = 1 << 30  # results with a zero beyond it may not have 32 bits

_BYTES = {
    "number": "uint8_t",
    "step": 4,
    "planes": 1,
    "windows": "",
    "widened": "",
    "from": "bytes",
}
_SQUARES = {
    "number": "int16_t",
    "step": 2,
    "planes": 2,
    "windows": "\n    int16_t windows[2 * SR_WIDE_ROWS + 2];",
    "widened": "\n            sr_wide_square(bytes, g->kernel_y * numbers, g->zero, windows);",
    "from": "windows",
}


@dataclass(frozen=True)
class Wide:
    """How rows of numbers become sums of eight filters.

    Attributes:
        weight: (filters, rows, columns, channels of a group); of a similarity of order 2 the rows of its templates,
            then those of its factors.
        flip: the bits in which a byte without sign differs from what is read.
        fill: C's name of the bytes of a pixel outside of the grid, or NULL: they are the grid's zero.
        squares: whether squares are read behind the numbers, as similarities do; each filter's results have a zero.
    """

    weight: Whole
    flip: int
    fill: str = "NULL"
    squares: bool = False

    def packed(self, layer: Conv | Lp) -> Whole:
        """Weights in the order in which they are read."""
        (units, _, across, depth), step = self.weight.shape, int(self._fields["step"])
        joined = layer.groups == 1 and layer.window.dilation[1] == 1
        pieces = self.weight.reshape(units, -1, across * depth if joined else depth)
        padded = np.pad(pieces, ((0, 0), (0, 0), (0, -pieces.shape[2] % step)))
        blocks = [_eights(group) for group in np.split(padded.reshape(units, -1, step), layer.groups)]
        return np.concatenate(blocks).transpose(0, 2, 1, 3).reshape(-1)

    def helpers(self) -> dict[str, str]:
        """Functions that are called, by name, as text."""
        bits = 16 if self.squares else 8
        found = {"wide": kernel("i8/wide.c"), "wide rows": kernel("i8/wide_rows.c", room=_ROOM)}
        found[f"wide sums {bits}"] = kernel("i8/wide_sums.c", width=bits, weight=f"int{bits}_t", **self._fields)
        return found | ({"wide squares": kernel("i8/wide_squares.c")} if self.squares else {})

    def function(self, **fields: str) -> str:
        """The function that computes, before the one in whose place it is called."""
        return kernel(
            "i8/wide_filters.c",
            **{**fields, **self._fields},
            width=16 if self.squares else 8,
            fill=self.fill,
            flip=self.flip,
            zeros="sr_wide_some(zeros + u, width)" if self.squares else "_mm256_set1_epi32(g->out_zero)",
        )

    @property
    def _fields(self) -> dict[str, Any]:
        return _SQUARES if self.squares else _BYTES


def planes(weight: Whole) -> Whole:
    """The weights of a depthwise convolution, (channels, rows, columns), as eight channels read them: by four rows."""
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % 4), (0, 0)))
    fours = padded.reshape(len(weight), -1, 4, weight.shape[2])
    return _eights(fours).transpose(0, 2, 4, 1, 3).reshape(-1)


def _eights(weight: Whole) -> Whole:
    """Eight filters each, the last eight again rather than fewer; if there are fewer, with filters of zeros."""
    count = len(weight)
    padded = np.pad(weight, ((0, max(8 - count, 0)), *((0, 0),) * (weight.ndim - 1)))
    return np.stack([padded[max(min(first, count - 8), 0) :][:8] for first in range(0, count, 8)])


def is_wide(one: WholeLayer) -> bool:
    """Whether eight filters of a layer, or channels, can be computed side by side.

    Results are four in a row at least, what they read has room, and before limits they have 32 bits.
    """
    layer, c = one.layer, one.constants
    assert isinstance(layer, Conv | Lp)
    small = int(c["shift"].min()) >= 32 and int(np.abs(c.get("zero", 0)).max()) < _HALF
    return small and layer.shape[1] >= 4 and _has_room(layer)


def _has_room(layer: Conv | Lp) -> bool:
    window: Window = layer.window
    more = (window.kernel[1] - 1) * window.dilation[1] + 1
    if isinstance(layer, Conv) and layer.depthwise and layer.centre is None:
        return -(-window.kernel[0] // 4) * ((layer.shape[1] - 1) * window.stride[1] + more) <= PLANE
    weight = layer.weight if isinstance(layer, Conv) else layer.templates
    return bool(window.kernel[0] * (3 * window.stride[1] + more) * weight.shape[3] * layer.groups <= _ROOM)
