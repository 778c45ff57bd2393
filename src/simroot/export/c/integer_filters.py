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

_STORES: Mapping[str, Mapping[str, object]] = {
    "int8_t": {
        "bits": 8,
        "size": "b",
        "neonstore": "vst1_lane_s32((int32_t *)(void *)(y + k), vreinterpret_s32_s8(vqmovn_s16(both)), 0)",
        "wasmstore": "wasm_v128_store32_lane(y + k, wasm_i8x16_narrow_i16x8(narrow, narrow), 0)",
    },
    "int16_t": {
        "bits": 16,
        "size": "h",
        "neonstore": "vst1_s16(y + k, vget_low_s16(both))",
        "wasmstore": "wasm_v128_store64_lane(y + k, narrow, 0)",
    },
}
_ZERO = {
    "zeros": "int32_t zero",
    "zero": "zero",
    "mvezero": "vdupq_n_s32(zero)",
    "neonzero": "vdupq_n_s32(zero)",
    "wasmzero": "wasm_i32x4_splat(zero)",
}
_ZEROS = {
    "zeros": "const int32_t *zeros",
    "zero": "zeros[k]",
    "mvezero": "vldrwq_z_s32(zeros + k, some)",
    "neonzero": "vld1q_s32(zeros + k)",
    "wasmzero": "wasm_v128_load(zeros + k)",
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
        factors: of each filter, by which its sum is multiplied.
        window: statements that bring a part of a window together.
        sums: the call that adds its products to the sums, up to what every such call ends with.
        parameters: declarations of the tables behind the first.
        helpers: functions that it calls, by name, as text.
        weight: C's type of the first table's numbers.
        wide: how eight filters are computed side by side, if they can be.
    """

    name: str
    what: str
    length: int
    tables: Tables
    bias: Whole
    factors: Whole
    window: str
    sums: str
    helpers: dict[str, str]
    weight: str = "int16_t"
    parameters: str = ""
    more: Tables = field(default_factory=list)
    wide: Wide | None = None

    def text(self, name: str, ending: str, **types: str) -> str:
        """The function, whose results are those of ``sr_finish`` with this ending."""
        fields = {key: getattr(self, key) for key in ("what", "window", "sums", "weight", "parameters")}
        zero = "zeros + first" if self.more else "g->out_zero"
        fields |= {"name": name, "more": ", const int32_t *zeros" if self.more else "", **types}
        function = kernel("i8/filters.c", **fields, ending=ending, zero=zero)
        return f"{self.wide.function(**fields)}\n{function}" if self.wide else function


def finish(output: str, zeros: bool, shifts: Whole) -> tuple[str, str]:
    """The ending of the name of a function that brings sums to results, and its text.

    Args:
        output: C's type of results.
        zeros: whether each of them has a zero of its own.
        shifts: by which they are moved; processors do it faster by more than 33.
    """
    near = shifts.min() > 33
    ending = output.removesuffix("_t") + "_zeros" * zeros + "_any" * (not near)
    zero = _ZEROS if zeros else _ZERO
    return ending, kernel(f"i8/finish{'' if near else '_any'}.c", name=ending, output=output, **zero, **_STORES[output])


def room(layer: Layer) -> int:
    """Bytes that a layer works in: for sums of two windows, two parts of them in 16 bits, and one in bytes."""
    if not isinstance(layer, Conv | Lp):
        return 0
    units = len(_weight(layer))
    if isinstance(layer, Conv) and layer.depthwise and layer.centre is None:
        return 4 * units + 8 * layer.weight[0].size  # sums of one window, and two numbers of each tap
    taps = _weight(layer)[0].size // parts(layer)
    numbers = 5 * _up(taps, 4)
    if isinstance(layer, Lp):
        numbers = 9 * _up(taps, 2) if layer.order == 2 else 5 * taps
    return 8 * _up(units // layer.groups, 2) + numbers


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
    """Products of the weights with bytes without sign; the bias takes off what is added, and pixels' centre."""
    c, count, pixels = one.constants, parts(layer), layer.centre is not None
    weight = np.asarray(c["weight"])
    length = _up(weight[0].size // count, 4)
    added = c["centre"] if pixels else np.full(weight.shape[3], zero + 128)
    fill, flip = ("centre", 0) if pixels else ("NULL", 128)
    tables: Tables = [("weights", "int8_t", _rows(weight, length, count).reshape(-1))]
    if pixels:
        tables.append(("centre", "uint8_t", np.tile(c["centre"], layer.window.kernel[1])))
    return Filters(
        name="sr_conv_pixels" if pixels else "sr_conv",
        what="products with the filters",
        length=length,
        tables=tables,
        bias=c["bias"] - (weight * added).sum((1, 2, 3)),
        factors=c["multiplier"],
        window=f"sr_window(g, (const uint8_t *)x, down, rows, at, group, length, {fill}, {flip}, room, i);",
        sums="sr_sums_dot8(room, length, w + place",
        helpers={"forms": kernel("i8/forms.c"), "sums dot8": _dot(8)}
        | {name: kernel(f"i8/{name}.c") for name in ("gather", "widen", "window")},
        weight="int8_t",
        parameters=", const uint8_t *centre" if pixels else "",
        wide=Wide(weight, flip, fill),
    )


def _products(one: WholeLayer) -> Filters:
    """``sum x (A x + B)`` as one dot product: of x with B, and of ``x^2 - 32768``, which has 16 bits, with A.

    It is subtracted: all signs are those of what is left of it.
    """
    c, layer = one.constants, one.layer
    assert isinstance(layer, Lp)
    count = parts(layer)
    half = _up(c["templates"][0].size // count, 2)
    rows = np.concatenate([_rows(c["templates"], half, count), _rows(c["factors"], half, count)], 2)
    bias = 32768 * c["factors"].sum((1, 2, 3)) - c["bias"]
    return Filters(
        name="sr_lp_products",
        what="x (A x + B), which are weights times squares but for a constant",
        length=2 * half,
        tables=[("templates", "int16_t", rows.reshape(-1))],
        bias=(bias + 2**31) % 2**32 - 2**31,  # modulo 2^32, as all of these sums
        factors=-c["multiplier"],
        window=_window("sr_square(bytes, length, g->zero, room, i)", "length / 2"),
        sums="sr_sums_dot16(room, length, w + place",
        helpers={
            "forms": kernel("i8/forms.c"),
            "sums dot16": _dot(16),
            "gather": kernel("i8/gather.c"),
            "square": kernel("i8/squares.c"),
        },
        more=_zeros(c),
        wide=Wide(np.concatenate([c["templates"], c["factors"]], 1), 0, squares=True),
    )


def _distances(one: WholeLayer) -> Filters:
    """Weights times differences, or times powers of differences from a table, which are subtracted."""
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
    inner = {"passed": ", power, coarse", "parameters": ", const uint16_t *power, int coarse"}
    given = inner if passed else dict.fromkeys(inner, "")
    return Filters(
        name=f"sr_lp_{kind}",
        what="weights times differences" if kind == "differences" else "weights times powers of differences",
        length=length,
        tables=tables,
        bias=-c["bias"],
        factors=-c["multiplier"],
        window=_window("sr_refine(bytes, length, g->zero, g->fine, room + i * length)"),
        sums=f"sr_sums_{kind}(room, length, w + place, f + place{passed}",
        parameters=parameters,
        helpers={
            "forms": kernel("i8/forms.c"),
            "gather": kernel("i8/gather.c"),
            "refine": kernel("i8/refine.c"),
            f"sums {kind}": "\n".join(
                [
                    kernel(f"i8/{kind}.c"),
                    kernel("i8/distances.c", kind=kind, **given),
                    kernel(
                        "i8/sums.c",
                        kind=kind,
                        weight="int16_t",
                        parameters=f", const int16_t *f{given['parameters']}",
                        step="\n        f += 2 * all;",
                        pair=f"sr_{kind}_of_two(x, length, w, w + next, f, f + next{given['passed']}, four)",
                    ),
                ]
            ),
        },
        more=_zeros(c),
    )


def _zeros(constants: Mapping[str, Any]) -> Tables:
    """Of similarities, whose results have a zero of their own for each template."""
    return [("zeros", "int32_t", constants["zero"])]


def _window(widened: str, length: str = "length") -> str:
    """Statements that bring the bytes of a window together, and then into 16 bits."""
    lines = [
        "uint8_t *const bytes = (uint8_t *)(room + 2 * length);",
        f"sr_gather(g, (const uint8_t *)x, down, rows, at, group, {length}, NULL, bytes);",
        f"{widened};",
    ]
    return ("\n" + " " * 24).join(lines)


def _dot(bits: int) -> str:
    weight = _DOTS[bits]["weight"]
    pair = f"sr_dot{bits}_of_two(x, length, w, w + next, four)"
    return "\n".join(
        [
            kernel("i8/dot.c", width=bits, dsploads=kernel(f"i8/dots/dsp{bits}.c"), **_DOTS[bits]),
            kernel("i8/sums.c", kind=f"dot{bits}", weight=weight, parameters="", pair=pair, step=""),
        ]
    )


def _rows(weight: Whole, length: int, count: int) -> Whole:
    """(filters, kh, kw, channels) as (filters, count, length), zeros behind each part."""
    flat = weight.reshape(len(weight), count, -1)
    return np.pad(flat, ((0, 0), (0, 0), (0, length - flat.shape[2])))


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
