"""Convolutions and similarities in integers: tables, windows and sums of their kernels.

Every pixel's window is brought into one row of numbers of 16 bits, and every filter is a row of a table: what is left
are dot products, for which processors have instructions. ``kernels/i8/dots`` has their forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.export.c.integers import Whole, WholeLayer
from simroot.export.c.layers import Conv, Floats, Layer, Lp, Window
from simroot.export.c.text import kernel
from simroot.export.c.wide import Wide

_DOTS: Mapping[int, Mapping[str, str]] = {
    8: {
        "weight": "int8_t",
        "mve": "vldrbq",
        "neon8": "vmovl_s8(vld1_s8(w))",
        "neon4": "vget_low_s16(vmovl_s8(vcreate_s8(bits)))",
        "wasm8": "wasm_i16x8_load8x8(w)",
        "wasm4": "wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(w))",
        "x86eight": "_mm_srai_epi16(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)w)), 8)",
        "x86four": "_mm_srai_epi16(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_set_epi64x(0, bits)), 8)",
        "x86sixteen": "_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w))",
    },
    16: {
        "weight": "int16_t",
        "mve": "vldrhq",
        "neon8": "vld1q_s16(w)",
        "neon4": "vcreate_s16(bits)",
        "wasm8": "wasm_v128_load(w)",
        "wasm4": "wasm_v128_load64_zero(w)",
        "x86eight": "_mm_loadu_si128((const __m128i *)w)",
        "x86four": "_mm_set_epi64x(0, bits)",
        "x86sixteen": "_mm256_loadu_si256((const __m256i *)w)",
    },
}

_LARGE = 256

Tables = list[tuple[str, str, NDArray[np.int64]]]
"""Of each what it holds, C's type, and its numbers."""


@dataclass(frozen=True)
class Filters:
    """What ``kernels/i8/filters.c`` becomes for a layer.

    Attributes:
        name: of the function, but for its types.
        what: it computes.
        length: numbers of a part of a window, and of a filter.
        tables, more: constants that are given before and behind the factors.
        bias: of each filter.
        weight: C's type of the first table's numbers.
        window, dot, total, zero: statements and expressions.
        parameters, behind: declarations of the other tables.
        helpers: functions that it calls, by name, as text.
        wide: how eight filters are computed side by side, if they can be.
    """

    name: str
    what: str
    length: int
    tables: Tables
    bias: Whole
    window: str
    dot: str
    total: str
    helpers: dict[str, str]
    weight: str = "int16_t"
    parameters: str = ""
    more: Tables = field(default_factory=list)
    behind: str = ""
    zero: str = "g->out_zero"
    wide: Wide | None = None

    def text(self, name: str, **types: str) -> str:
        """The function."""
        fields = {key: getattr(self, key) for key in ("what", "window", "dot", "total", "weight", "zero", "parameters")}
        fields |= {"name": name, "more": self.behind, **types}
        function = kernel("i8/filters.c", **fields)
        return f"{self.wide.function(**fields)}\n{function}" if self.wide else function


def room(layer: Layer) -> int:
    """Bytes that a layer works in: for sums, two parts of windows in 16 bits, and one in bytes."""
    if not isinstance(layer, Conv | Lp) or (isinstance(layer, Conv) and layer.depthwise and layer.centre is None):
        return 0
    count = parts(layer)
    taps, sums = _weight(layer)[0].size // count, len(_weight(layer)) // layer.groups if count > 1 else 2
    numbers = 5 * _up(taps, 4)
    if isinstance(layer, Lp):
        numbers = 9 * _up(taps, 2) if layer.order == 2 else 5 * taps
    return 8 * _up(sums, 2) + numbers


def parts(layer: Conv | Lp) -> int:
    """In how many parts a window is read: whole, or if it is large by its rows, which are multiples of four."""
    down, across, depth = _weight(layer).shape[1:]
    if down * across * depth <= _LARGE:
        return 1
    if is_dense(layer):
        return next((n for n in range(2, depth) if depth % (4 * n) == 0 and depth // n <= _LARGE), 1)
    return down if across * depth % 4 == 0 else 1


def is_dense(layer: Conv | Lp) -> bool:
    """Whether it reads a vector."""
    return layer.window == Window() and layer.shape[:2] == (1, 1) and layer.groups == 1


def _weight(layer: Conv | Lp) -> Floats:
    return layer.weight if isinstance(layer, Conv) else layer.templates


def filters(one: WholeLayer, zero: int) -> Filters:
    """The kernel of a convolution or similarity that reads numbers of this zero."""
    if isinstance(one.layer, Conv):
        return _convolution(one, one.layer, zero)
    return _distances(one) if "fine" in one.constants else _products(one)


def _convolution(one: WholeLayer, layer: Conv, zero: int) -> Filters:
    c, count = one.constants, parts(layer)
    length = _up(layer.weight[0].size // count, 4)
    tables: Tables = [("weights", "int8_t", _rows(c["weight"], length, count).reshape(-1))]
    name, parameters, helpers = "sr_conv", "", {"forms": kernel("i8/forms.c")}
    helpers["dot8"] = _dot(8)
    weight = np.asarray(c["weight"])
    if layer.centre is None:
        less = (zero + 128) * weight.sum((1, 2, 3))
        wide = Wide(weight, c["bias"] - less)
        window = "sr_window(g, x, down, rows, at, group, length, room, i);"
        helpers |= {name: kernel(f"i8/{name}.c") for name in ("gather", "widen", "window")}
    else:
        name, parameters = "sr_conv_pixels", ", const uint8_t *centre"
        wide = Wide(weight, c["bias"] - (weight * c["centre"]).sum((1, 2, 3)), flip=0, fill="centre")
        window = _window("sr_subtract(bytes, centre, length, room, i)", fill="centre")
        helpers |= {name: kernel(f"i8/{name}.c") for name in ("gather", "centre")}
        centre = np.broadcast_to(c["centre"], layer.weight.shape[1:])
        tables.append(("centre", "uint8_t", _rows(centre[None], length, count)[0, 0]))
    return Filters(
        name=name,
        what="products with the filters",
        length=length,
        tables=tables,
        bias=c["bias"],
        window=window,
        dot="sr_dot8(room, length, w + first, w + second, sum)",
        total="bias[u] + sum[2 * i + j]",
        helpers=helpers,
        weight="int8_t",
        parameters=parameters,
        wide=wide,
    )


def _products(one: WholeLayer) -> Filters:
    """``sum x (A x + B)`` as one dot product: of x with B, and of ``x^2 - 32768``, which has 16 bits, with A."""
    c, layer = one.constants, one.layer
    assert isinstance(layer, Lp)
    count = parts(layer)
    half = _up(c["templates"][0].size // count, 2)
    rows = np.concatenate([_rows(c["templates"], half, count), _rows(c["factors"], half, count)], 2)
    bias = c["bias"] - 32768 * c["factors"].sum((1, 2, 3))
    added = (bias + 2**31) % 2**32 - 2**31  # modulo 2^32, as all of these sums
    return Filters(
        name="sr_lp_products",
        what="x (A x + B), which are weights times squares but for a constant",
        length=2 * half,
        tables=[("templates", "int16_t", rows.reshape(-1))],
        bias=added,
        window=_window("sr_square(bytes, length, g->zero, room, i)", "length / 2"),
        dot="sr_dot16(room, length, w + first, w + second, sum)",
        total="(int32_t)((uint32_t)bias[u] - (uint32_t)sum[2 * i + j])",
        helpers={
            "forms": kernel("i8/forms.c"),
            "dot16": _dot(16),
            "gather": kernel("i8/gather.c"),
            "square": kernel("i8/squares.c"),
        },
        wide=Wide(np.concatenate([c["templates"], c["factors"]], 1), added, flip=0, zeros="zeros", squares=True),
        **_zeros(c),
    )


def _distances(one: WholeLayer) -> Filters:
    """Weights times differences, or times powers of differences from a table."""
    c, layer = one.constants, one.layer
    assert isinstance(layer, Lp)
    length = c["templates"][0].size // parts(layer)
    kind = "table" if "table" in c else "differences"
    tables: Tables = [
        (what, "int16_t", c[key].reshape(-1))
        for what, key in (("templates", "templates"), ("factors_of_templates", "factors"))
    ]
    parameters, passed = ", const int16_t *f", ""
    if kind == "table":
        tables.append(("powers", "uint16_t", c["table"]))
        parameters, passed = parameters + ", const uint16_t *power", ", power, g->coarse"
    rows = ", ".join(f"{table} + {place}" for table in "wf" for place in ("first", "second"))
    return Filters(
        name=f"sr_lp_{kind}",
        what="weights times differences" if kind == "differences" else "weights times powers of differences",
        length=length,
        tables=tables,
        bias=c["bias"],
        window=_window("sr_refine(bytes, length, g->zero, g->fine, room + i * length)"),
        dot=f"sr_sum_{kind}(room, length, {rows}{passed}, sum)",
        total="bias[u] - sum[2 * i + j]",
        parameters=parameters,
        helpers={
            "gather": kernel("i8/gather.c"),
            "refine": kernel("i8/refine.c"),
            f"sum {kind}": kernel(f"i8/{kind}.c")
            + "\n"
            + kernel(
                "i8/distances.c",
                kind=kind,
                passed=", power, coarse" if passed else "",
                parameters=", const uint16_t *power, int coarse" if passed else "",
            ),
        },
        **_zeros(c),
    )


def _zeros(constants: Mapping[str, Any]) -> dict[str, Any]:
    """Of similarities, whose results have a zero of their own for each template."""
    return {
        "more": [("zeros", "int32_t", constants["zero"])],
        "behind": ", const int32_t *zeros",
        "zero": "zeros[u]",
    }


def _window(widened: str, length: str = "length", fill: str = "NULL") -> str:
    """Statements that bring the bytes of a window together, and then into 16 bits."""
    lines = [
        "uint8_t *const bytes = (uint8_t *)(room + 2 * length);",
        f"sr_gather(g, (const uint8_t *)x, down, rows, at, group, {length}, {fill}, bytes);",
        f"{widened};",
    ]
    return ("\n" + " " * 20).join(lines)


def _dot(bits: int) -> str:
    return kernel("i8/dot.c", width=bits, dsploads=kernel(f"i8/dots/dsp{bits}.c"), **_DOTS[bits])


def _rows(weight: Whole, length: int, count: int) -> Whole:
    """(filters, kh, kw, channels) as (filters, count, length), zeros behind each part."""
    flat = weight.reshape(len(weight), count, -1)
    return np.pad(flat, ((0, 0), (0, 0), (0, length - flat.shape[2])))


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
