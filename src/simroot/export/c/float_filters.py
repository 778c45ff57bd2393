"""Convolutions and similarities in float32: loops over the grid, with sums of several filters at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simroot.export.c.layers import Conv, Layer, Lp
from simroot.export.c.text import kernel, real

WIDEST = 8
"""Filters that lie side by side; of fewer, those that are left."""

PRODUCT = "a += value * v;"
_LANES = {1: "float", 4: "sr_four", 8: "sr_eight", 16: "sr_sixteen"}


def power(order: float) -> str:
    """A term ``f d^order`` with d = |value - v|, added to the sum a."""
    if order == 2:
        return "const @NUMBER@ d = value - v;\na += f * d * d;"
    if order == 1:
        return "a += f * fabsf(value - v);"
    size = "const @NUMBER@ d = fabsf(value - v);"
    if order <= 4 and (order * 2) % 1 == 0:
        factors = ["d"] * int(order) + ["sqrtf(d)"] * (order % 1 == 0.5)
        return f"{size}\na += f * {' * '.join(factors)};"
    return f"{size}\nif (d > 1.17549435e-38F) a += f * sr_exp({real(order)} * sr_log(d));"


_JOINED = """    const int depth = g->channels / g->groups, groups = g->groups, units = g->filters / groups;
    const int taps = g->kernel_y * g->kernel_x * depth, joined = groups == 1 && g->apart_x == 1;"""
_WINDOW = """                    const int pieces = joined ? 1 : last_x - first_x;
                    const int length = joined ? (last_x - first_x) * depth : depth;
                    const int block = sr_least(count, 8), tap = first_y * g->kernel_x + first_x;
                    const int offset = filter * taps + tap * depth * block;"""
_PIXELS = "count >= SR_LEAST && column >= first && column < last ? many : 1"
_PLANES = "    const int groups = 1, units = g->filters;"
_PLANES_WINDOW = """                    const int pieces = last_x - first_x;
                    const int offset = filter + (first_y * g->kernel_x + first_x) * g->channels;"""


def filter_kernel(name: str, widths: Sequence[int], inside: bool, **fields: str) -> str:
    """The function of a convolution or similarity.

    Args:
        name: of the function.
        widths: how many filters it computes at a time.
        inside: whether in all layers no window sees what is outside of the grid, and four columns are there.
        fields: of the kernels; ``term`` is what one tap adds.
    """
    fields = {"input": "float", "value": "from[i * next + k]", **fields}
    fields["pixels"] = "SR_INSIDE(count >= SR_LEAST ? many : 1)" if inside else _PIXELS
    arguments = f"{fields['passed']}last_y - first_y, pieces, length"
    rows = {"sizes": _JOINED, "window": _WINDOW, "channel": "group * depth"}
    return _by_blocks("f32/sums.c", name, widths, arguments, fields, rows)


def depthwise_kernel(name: str, widths: Sequence[int]) -> str:
    """The function of a convolution of each channel by a filter of its own; weights are (kh, kw, channels)."""
    fields = {
        "input": "float",
        "value": "from[i * next + j]",
        "term": PRODUCT,
        "sign": "+",
        "more": "",
        "unused": "",
        "before": "",
        "pixels": _PIXELS,
    }
    rows = {"sizes": _PLANES, "window": _PLANES_WINDOW, "channel": "unit", "what": "products with a filter a channel"}
    return _by_blocks("f32/planes.c", name, widths, "last_y - first_y, pieces", fields, rows)


class _Block(NamedTuple):
    """The function of some filters and pixels, and the condition on which it is there."""

    width: int
    pixels: int
    text: str
    guard: str

    def guarded(self, text: str) -> str:
        return f"#if {self.guard}\n{text}#endif\n" if self.guard else text

    def case(self, call: str) -> str:
        """Of the switch that calls it."""
        text = f"                    case {self.width * 16 + self.pixels}:\n{' ' * 24}{call}\n{' ' * 24}break;\n"
        return self.guarded(text).rstrip()


def _by_blocks(
    file: str, name: str, widths: Sequence[int], arguments: str, fields: dict[str, str], rows: dict[str, str]
) -> str:
    """Functions for some filters and pixels at a time, and the loops that call them."""
    found: list[_Block] = []
    vectors = not re.search(r"sqrtf|sr_exp", fields["term"])
    for width in widths:
        sizes = {**fields, "filters": width, "given": ""}
        lanes = 4 if vectors and width > 1 else 1
        texts = {
            (pixels, count): _text(file, f"{name}_{width}x{pixels}", sizes, _unrolled(fields, width, pixels, count))
            for pixels, count in ((8, 8), (8, 4), (8, 1), (4, 8), (4, 4), (4, 1), (1, 4), (1, 1))
        }
        for pixels in (8, 4, 1):
            several = texts[pixels, lanes]
            if pixels == 1 and lanes == 4:
                several = f"#ifdef SR_FOUR\n{several}#else\n{texts[1, 1]}#endif\n"
            elif lanes == 4 and width > 4:
                several = f"#ifdef SR_EIGHT\n{texts[pixels, 8]}#else\n{several}#endif\n"
            guard = f"SR_PIXELS >= {pixels} && SR_LEAST <= {width}" if pixels > 1 else ""
            found.append(_Block(width, pixels, several, guard))
    if vectors and WIDEST in widths:
        sizes = {**fields, "filters": WIDEST, "given": ""}
        for pixels in (8, 4, 1):
            several = _text(file, f"{name}_16x{pixels}", sizes, _unrolled(fields, 16, pixels, 16))
            found.append(_Block(16, pixels, several, "defined(SR_SIXTEEN)"))
    text = "\n".join(one.guarded(one.text) for one in found)
    call = f"(g, x + from, w + offset, {arguments}, bias + filter, to);"
    calls = _SWITCH.format(cases="\n".join(one.case(f"{name}_{one.width}x{one.pixels}{call}") for one in found))
    if vectors:
        own, whole = "j" in fields["value"], all(width % 4 == 0 for width in widths)
        given = ("" if whole else ", int some") + ("" if own else ", int apart")
        sizes = {**fields, "filters": "apart", "given": given}
        some = "" if whole else "some"
        small = [_text(file, f"{name}_some_{n}", sizes, _unrolled(fields, 4, n, 4, some)) for n in (4, 1)]
        text = f"#ifdef SR_SMALL\n{small[0]}{small[1]}#else\n{text}#endif\n"
        first, more = "x + from + j" if own else "x + from", arguments.replace("offset", "offset + j")
        passed = f"g, {first}, w + offset + j, {more}, bias + filter + j, to + j"
        passed += ("" if whole else ", sr_least(count - j, 4)") + ("" if own else ", count")
        calls = f"#ifdef SR_SMALL\n{_SMALL.format(name=name, arguments=passed)}\n#else\n{calls}\n#endif"
    count = "SR_FILTERS(units, unit)" if vectors else f"sr_least(units - unit, {WIDEST})"
    return f"{text}\n{kernel('f32/rows.c', **fields, **rows, name=name, calls=calls, count=count)}"


_SWITCH = """                    switch (count * 16 + pixels) {{
{cases}
                    default:
                        break;
                    }}"""
_SMALL = """                    int j;
                    for (j = 0; j < count; j += 4) {{
                        if (pixels == 4) {{
                            {name}_some_4({arguments});
                        }} else {{
                            {name}_some_1({arguments});
                        }}
                    }}"""


def _text(file: str, name: str, sizes: dict[str, Any], unrolled: dict[str, str]) -> str:
    following = sizes.get("next", "").replace("@FILTERS@", str(sizes["filters"]))
    return kernel(file, **{**sizes, **unrolled, "name": name, "next": following})


_CLAMP = """    const sr_@NAME@ zero = {0}, lowest = zero + low, highest = zero + high;
    const sr_@NAME@_bits below = value < lowest, above = value > highest;
    const sr_@NAME@_bits kept = (above & (sr_@NAME@_bits)highest) | (~above & (sr_@NAME@_bits)value);
    return (sr_@NAME@)((below & (sr_@NAME@_bits)lowest) | (~below & kept));"""
_CLAMP_OF_FOUR = f"""#ifdef __wasm_simd128__
    return (sr_four)wasm_f32x4_pmin(wasm_f32x4_pmax((v128_t)value, wasm_f32x4_splat(low)), wasm_f32x4_splat(high));
#else
{_CLAMP.replace("@NAME@", "four")}
#endif"""
_CLAMP_OF_X86 = """    const @TYPE@ above = @PREFIX@_max_ps(@PREFIX@_set1_ps(low), (@TYPE@)value); /* NaN stays NaN */
    return (sr_@NAME@)@PREFIX@_min_ps(@PREFIX@_set1_ps(high), above);"""


_SOME_OF_FOUR = """    sr_four some = {0};
    some[0] = from[0];
    some[1] = count > 1 ? from[1] : 0.0F;
    some[2] = count > 2 ? from[2] : 0.0F;
    return some;"""
_SOME_OF_EIGHT = """    const sr_eight_bits places = {0, 1, 2, 3, 4, 5, 6, 7};
    return (sr_eight)_mm256_maskload_ps(from, (__m256i)(places < count));"""
_SOME_OF_SIXTEEN = "    return (sr_sixteen)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1u), from);"


def vectors() -> str:
    """The types of several numbers side by side, where there are such."""
    four = kernel("f32/vector.c", name="four", bytes=16, clamp=_CLAMP_OF_FOUR, some=_SOME_OF_FOUR)
    eight, sixteen = (
        kernel("f32/vector.c", name=name, bytes=4 * lanes, clamp=_of_x86(name, lanes), some=some)
        for name, lanes, some in (("eight", 8, _SOME_OF_EIGHT), ("sixteen", 16, _SOME_OF_SIXTEEN))
    )
    return kernel("f32/vectors.c", four=four, eight=eight, sixteen=sixteen)


def _of_x86(name: str, lanes: int) -> str:
    fields = {"NAME": name, "TYPE": f"__m{32 * lanes}", "PREFIX": f"_mm{32 * lanes}"}
    return re.sub("@(NAME|TYPE|PREFIX)@", lambda match: fields[match[1]], _CLAMP_OF_X86)


def _unrolled(fields: dict[str, str], width: int, pixels: int, lanes: int, some: str = "") -> dict[str, str]:
    """Sums in variables of their own, which compilers keep in registers: declared, added to and stored.

    Args:
        fields: of the kernel.
        width: how many filters.
        pixels: how many of them.
        lanes: filters of one variable.
        some: C's name of how many filters there are, if not all.
    """
    number, own = _LANES[lanes], "j" in fields["value"]
    places = range(0, width, lanes)
    names = {f"a{i}_{j}": (i, j) for i in range(pixels) for j in places}
    lines = _values(fields["value"], pixels, width, lanes, some)
    if lanes > 1:
        tables = "vf" if "next" in fields else "v"
        load = f"sr_load{number[2:]}({{table}} + {{j}})"
        if lanes > WIDEST and not own:
            load = f"sr_load_blocks({{table}}, g->kernel_y * g->kernel_x * depth * {WIDEST})"
        lines += [f"const {number} {table}_{j} = {load.format(table=table, j=j)};" for table in tables for j in places]
    for name, (i, j) in names.items():
        term = fields["term"].replace("@NUMBER@", number)
        term = re.sub(r"\ba\b", name, re.sub(r"\bvalue\b", f"value{i}_{j}" if own else f"value{i}", term))
        term = re.sub(r"\b([vf])\b", rf"\1[{j}]" if lanes == 1 else rf"\1_{j}", term)
        if lanes > 1:
            term = term.replace("fabsf", f"sr_absolute{number[2:]}")
        lines += ["{", *(f"    {line}" for line in term.split("\n")), "}"] if "\n" in term else [term]
    store = "to[{place}] = sr_clamp(bias[{j}] {sign} {name}, g->low, g->high);"
    if lanes > 1:
        kind = number[2:]
        limited = f"sr_clamp{kind}(sr_load{kind}(bias + {{j}}) {{sign}} {{name}}, g->low, g->high)"
        store = f"sr_store{kind}({limited}, {{some}}, to + {{place}});"
    stores = {
        name: {
            "place": f"{i} * g->filters + {j}",
            "j": j,
            "sign": fields["sign"],
            "some": some or min(lanes, width - j),
        }
        for name, (i, j) in names.items()
    }
    start = "{name} = 0" if lanes == 1 else "{name} = {{0}}"
    return {
        "number": number,
        "sums": ", ".join(start.format(name=name) for name in names),
        "terms": "\n".join(" " * 16 + line for line in lines),
        "results": "\n".join("    " + store.format(name=name, **one) for name, one in stores.items()),
    }


def _values(value: str, pixels: int, width: int, lanes: int, some: str) -> list[str]:
    """What is read of each pixel: one number for all filters, or one for each."""
    read = [value.replace("i * next", f"{i} * next") for i in range(pixels)]
    if "j" not in value:
        return [f"const float value{i} = {one};" for i, one in enumerate(read)]
    places = range(0, width, lanes)
    if lanes == 1:
        return [
            f"const float value{i}_{j} = {one.replace(' j', f' {j}')};" for i, one in enumerate(read) for j in places
        ]
    kind, lines = _LANES[lanes], []
    for i in range(pixels):
        for j in places:
            count, place = min(lanes, width - j), f"from + {i} * next + {j}"
            load = f"sr_load{kind[2:]}({place})" if count == lanes else f"sr_some{kind[2:]}({place}, {count})"
            load = f"{some} == {lanes} ? {load} : sr_some{kind[2:]}({place}, {some})" if some else load
            lines.append(f"const {kind} value{i}_{j} = {load};")
    return lines


def used_widths(layers: Sequence[Layer]) -> list[int]:
    """How many filters at a time any layer computes."""
    units = [
        len(one.bias) // (1 if isinstance(one, Conv) and one.depthwise else one.groups)
        for one in layers
        if isinstance(one, Conv | Lp)
    ]
    return sorted({width for count in units for width in (min(count, WIDEST), count % WIDEST) if width}, reverse=True)


def blocked(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """(filters, kh, kw, channels) as the kernels read it: eight filters side by side, tap after tap, then the rest."""
    units = len(weight) // groups
    parts = []
    for group in range(groups):
        for unit in range(0, units, WIDEST):
            block = weight[group * units + unit : group * units + min(unit + WIDEST, units)]
            parts.append(np.moveaxis(block, 0, -1).reshape(-1))
    return np.concatenate(parts)
