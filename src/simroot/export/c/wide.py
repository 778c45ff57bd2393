"""Convolutions and similarities in integers, eight filters side by side: what ``kernels/i8/wide_filters.c`` becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simroot.export.c.text import kernel

_CALL = """
#ifdef SR_WIDE
    if ({whole}{name}_wide(g, x, all, w{passed}, factor, shift{more}, bias, top, bottom, y)) {{
        return;
    }}
#endif"""
_OUTSIDE = """__m256i outside[4]; /* sums over a window outside of the grid, which stand for 0 */
    uint8_t none[SR_WIDE_TAPS + 16];"""
_LESS = """sr_wide_sums8(none + starts[block], 0, g->channels, packed + block * packed_size, pieces, piece, outside);
            start = _mm256_sub_epi32(start, outside[0]);"""
_BYTES = {
    "number": "uint8_t",
    "step": 4,
    "windows": _OUTSIDE,
    "start": _LESS,
    "piece": "size",
    "next": "taps == 1 && g->step_x == 1 ? g->channels : length; /* windows may lie as the pixels do */",
    "widened": "",
    "from": "bytes + starts[block], next",
    "sign": "add",
}
_SQUARES = {
    "number": "int16_t",
    "step": 2,
    "windows": "int16_t windows[4 * SR_WIDE_TAPS + 8];",
    "start": "",
    "piece": "all",
    "next": "length;",
    "widened": "sr_wide_square(bytes, length, g->zero, windows);",
    "from": "windows + starts[block], all",
    "sign": "sub",
}


@dataclass(frozen=True)
class Wide:
    """How windows become sums of eight filters.

    Attributes:
        bits: of weights: 8 for those of bytes, 16 for those of numbers and their squares.
        flip: the bits in which a byte without sign differs from what is read.
        fill: C's name of the bytes outside of the grid, if they are not the grid's zero.
        zeros: C's name of the results' zeros, if each filter has one of its own; their sums are subtracted.
        whole: whether windows in parts and of groups can be read at once.
    """

    bits: int = 8
    flip: int = 128
    fill: str = ""
    zeros: str = ""
    whole: bool = False

    def helpers(self) -> dict[str, str]:
        """Functions that are called, by name, as text."""
        weight = "int8_t" if self.bits == 8 else "int16_t"
        found = {"wide": kernel("i8/wide.c"), "wide windows": kernel("i8/wide_window.c")}
        found[f"wide sums {self.bits}"] = kernel("i8/wide_sums.c", width=self.bits, weight=weight, **self._fields)
        return found if self.bits == 8 else found | {"wide squares": kernel("i8/wide_squares.c")}

    def function(self, name: str, **fields: str) -> str:
        """The function that computes, before the one that it takes the place of."""
        own = f"memset(none, g->zero + {self.flip}, (size_t)(size + 16));" if self.bits == 8 else ""
        if self.fill:
            own = f"memset(none, 0, (size_t)(size + 16));\n    memcpy(none, {self.fill}, (size_t)size);"
        return kernel(
            "i8/wide_filters.c",
            **{**fields, **self._fields},
            name=name,
            width=self.bits,
            prepared=own,
            fill=self.fill or "NULL",
            flip=self.flip,
            zeros_or_null=self.zeros or "NULL",
            zeros=f"sr_wide_some({self.zeros} + u, width)" if self.zeros else "_mm256_set1_epi32(g->out_zero)",
        )

    def call(self, name: str) -> str:
        """Statements that call it where it can do the work."""
        passed, more = (f", {names}" if names else "" for names in (self.fill, self.zeros))
        whole = "" if self.whole else "parts == 1 && g->groups == 1 && "
        return _CALL.format(name=name, whole=whole, passed=passed, more=more)

    @property
    def _fields(self) -> dict[str, Any]:
        return _BYTES if self.bits == 8 else _SQUARES
