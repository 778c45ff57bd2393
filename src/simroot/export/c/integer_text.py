"""The network in integers: tables and calls, bit for bit what ``simroot.export.c.whole`` computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simroot.export.c.integer_filters import filters, finish, is_dense, parts, room
from simroot.export.c.integers import EXP2, POWERS, Whole, WholeLayer
from simroot.export.c.layers import Affine, Binary, Concat, Conv, Gather, Layer, Lp, Mex, Pool, Unary, Window
from simroot.export.c.moves import cut_of
from simroot.export.c.pools import EXTREMES, pool_kernel
from simroot.export.c.program import Program, Rows
from simroot.export.c.steps import Schedule, schedule
from simroot.export.c.text import kernel, real, table
from simroot.export.c.wide import PLANE, is_wide, planes

_KINDS: dict[str, type[np.generic]] = {
    "int8_t": np.int8,
    "uint8_t": np.uint8,
    "int16_t": np.int16,
    "uint16_t": np.uint16,
    "int32_t": np.int32,
    "uint32_t": np.uint32,
}
_POOLS = {
    **EXTREMES,
    "average": (
        "0",
        "value[c] + from[c]",
        "sr_mean(value[c] + (divisor ? (divisor - count) * zero : 0), divisor ? divisor : count)",
    ),
}


class IntegerArithmetic:
    """See ``simroot.export.c.program.Arithmetic``."""

    functions = "i8/functions.c"
    limits = "int32_t zero, out_zero, low, high;\n    int fine, coarse;"
    arena_type, input_type = "int32_t", "uint8_t"

    def __init__(self, whole: list[WholeLayer], prefix: str, by_rows: bool = True) -> None:
        self.whole, self.layers, self.program = whole, [one.layer for one in whole], Program(prefix)
        self.types = ["int16_t" if one.numbers.bits == 16 else "int8_t" for one in whole]
        self.types[0] = "uint8_t"
        sizes = [1, *(one.numbers.bits // 8 for one in whole[1:])]
        self.schedule: Schedule = schedule(self.layers, sizes, room, by_rows)
        exponential = [k for k, one in enumerate(self.layers) if isinstance(one, Mex) or _is_mex_pool(one)]
        if exponential:
            self.program.prelude.append(table("uint32_t", "sr_exp2_table", EXP2))
            self.program.flash[exponential[0]] = 4 * EXP2.size

    @property
    def output_type(self) -> str:
        return self.types[-1]

    def finish(self, name: str) -> str:
        numbers = self.whole[-1].numbers
        return (
            f"    {{\n        static {self.output_type} found[{self.layers[-1].size}];\n"
            f"        {name}_run(pixels, (int32_t *)arena, found);\n"
            f"        for (i = 0; i < {self.layers[-1].size}; ++i) {{\n"
            f"            scores[i] = (float)(found[i] - {_number(numbers.zero)}) * {real(numbers.scale)};\n"
            "        }\n    }"
        )

    def address(self, offset: int, place: int) -> str:
        return f"({self.types[place]} *)(arena + {offset // 4})"

    def room(self, offset: int) -> str:
        return f"arena + {offset // 4}"

    def _by_window(self, place: int, source: str, to: str, rows: Rows, room: str) -> str:
        layer = self.layers[place]
        if isinstance(layer, Conv) and layer.depthwise and layer.centre is None:
            return self._depthwise(place, layer, source, to, rows, room)
        if isinstance(layer, Conv | Lp):
            return self._filters(place, layer, source, to, rows, room)
        assert isinstance(layer, Pool)
        kind, read = self.types[place], self.whole[layer.inputs[0]].numbers.zero
        name = f"sr_pool_{layer.kind}_{kind[:-2]}"
        extra = f", {layer.divisor}, {_number(read)}" if layer.kind == "average" else ""
        if layer.kind == "mex":
            extra = self._mex_factors(place)
            low, high = self.whole[place].numbers.limits
            self._need(name, kernel("i8/pool_mex.c", name=name, type=kind, low=low, high=high))
        else:
            start, step, result = _POOLS[layer.kind]
            more, added = ("", ""), kind
            if layer.kind == "average":
                more, added = ("int divisor, int32_t zero", "divisor, zero"), "int32_t"
            fields = {"what": layer.kind, "type": kind, "sum": added, "start": start, "step": step, "result": result}
            self._need("forms", kernel("i8/forms.c"))
            self._need(name, pool_kernel(name, fields, *more))
        return f"    {name}(&{self._grid(place, layer.window)}, {source}{extra}, {rows.top}, {rows.bottom}, {to});\n"

    def call(self, place: int, sources: list[str], to: str, room: str, rows: Rows) -> str:
        if isinstance(self.layers[place], Conv | Lp | Pool):
            return self._by_window(place, sources[0], to, rows, room)
        one, layer, x = self.whole[place], self.layers[place], sources[0]
        c, pixels, channels = one.constants, rows.number * layer.shape[1], layer.shape[2]
        if isinstance(layer, Mex):
            self._need("forms", kernel("i8/forms.c"))
            sixteenths, steps = (", ".join(map(str, powers)) for powers in POWERS)
            self._need("mex", kernel("i8/mex.c", sixteenths=sixteenths, steps=steps))
            sizes = f"{pixels}, {c['offsets'].shape[1]}, {channels}"
            offsets = self._table(place, "offsets", "int16_t", c["offsets"])
            return f"    sr_mex({x}, {sizes}, {offsets}, {_number(c['count'])}, {_number(c['moved'])}, {to});\n"
        if isinstance(layer, Affine):
            read, output = self.types[layer.inputs[0]], self.types[place]
            name = f"sr_affine_{read[:-2]}_{output[:-2]}"
            self._need_wide()
            kinds = {"input": read, "read": read[:-2], "output": output, "kind": output[:-2]}
            self._need(name, kernel("i8/affine.c", name=name, **kinds))
            tables = f"{self._factors(place)}, {self._table(place, 'bias', 'int32_t', c['bias'])}"
            numbers = ", ".join(map(_number, (c["zero"], c["low"], c["high"])))
            return f"    {name}({x}, {pixels}, {channels}, {tables}, {numbers}, {to});\n"
        if isinstance(layer, Unary):
            self._need("forms", kernel("i8/forms.c"))
            self._need("look up", kernel("i8/unary.c"))
            values = self._table(place, "values", "int8_t", c["table"])
            return f"    sr_look_up({x}, {pixels * channels}, {values}, {to});\n"
        if isinstance(layer, Binary):
            return self._binary(place, layer, sources, to, pixels * channels)
        if isinstance(layer, Concat):
            return self._concat(place, layer, sources, to)
        assert isinstance(layer, Gather)
        return self._gather(place, layer, x, to)

    def _need_wide(self) -> None:
        self._need("forms", kernel("i8/forms.c"))
        self._need("wide", kernel("i8/wide.c"))

    def _need(self, name: str, text: str) -> None:
        self.program.kernels.setdefault(name, text)

    def _table(self, place: int, what: str, kind: str, values: ArrayLike, wide: ArrayLike | None = None) -> str:
        def fitting(numbers: ArrayLike) -> NDArray[Any]:
            array = np.asarray(numbers)
            limits = np.iinfo(_KINDS[kind])  # type: ignore[type-var]
            assert array.min() >= limits.min, (what, array.min())
            assert array.max() <= limits.max, (what, array.max())
            return np.ascontiguousarray(array, dtype=_KINDS[kind])

        return self.program.table(place, what, kind, fitting(values), wide=None if wide is None else fitting(wide))

    def _factors(self, place: int, suffix: str = "") -> str:
        return ", ".join(self._scale(place, self.whole[place].constants[f"multiplier{suffix}"], suffix))

    def _scale(self, place: int, multiplier: Whole, suffix: str = "") -> list[str]:
        shift = self.whole[place].constants[f"shift{suffix}"]
        tables = (("factors", "int32_t", multiplier), ("shifts", "uint8_t", shift))
        return [self._table(place, f"{what}{suffix}", kind, values) for what, kind, values in tables]

    def _mex_factors(self, place: int) -> str:
        signs = self._table(place, "signs", "int8_t", self.whole[place].constants["signs"])
        return f", {signs}, {self._factors(place)}, {self._factors(place, '_back')}"

    def _grid(self, place: int, window: Window, groups: int = 1) -> str:
        one, layer, name = self.whole[place], self.layers[place], f"{self.program.prefix}_grid_{place}"
        c, source, taps = one.constants, self.layers[layer.inputs[0]].shape, window.kernel
        if isinstance(layer, Conv | Lp) and is_dense(layer):  # a vector that is read in parts: rows of one number
            count = parts(layer)
            source, taps = (count, 1, source[2] // count), (count, 1)
        numbers: Sequence[Any] = (
            *source,
            *layer.shape,
            *taps,
            *window.stride,
            *window.padding,
            *window.dilation,
            groups,
            self.whole[layer.inputs[0]].numbers.zero,
            one.numbers.zero,
            c.get("low", 0),
            c.get("high", 0),
            c.get("fine", 0),
            c.get("coarse", 0),
        )
        text = f"static const sr_grid {name} = {{{', '.join(map(_number, numbers))}}};\n"
        if text not in self.program.tables:
            self.program.tables.append(text)
        return name

    def _filters(self, place: int, layer: Conv | Lp, source: str, to: str, rows: Rows, room: str) -> str:
        one, read, output = self.whole[place], self.types[layer.inputs[0]], self.types[place]
        made = filters(one, self.whole[layer.inputs[0]].numbers.zero)
        wide = made.wide if made.wide and is_wide(one) else None
        helpers = made.helpers | (made.wide.helpers() if made.wide else {})
        for helper, text in helpers.items():
            self._need(helper, text)
        ending = self._finish(place, output, bool(made.more))
        name = f"{made.name}_{ending}"
        self._need(name, made.text(name, ending, input=read, output=output, kind=output[:-2]))
        first, *others = made.tables
        tables = [self._table(place, *first, wide.packed(layer) if wide else None)]
        tables += [self._table(place, *table) for table in others]
        tables += self._scale(place, made.factors)
        tables += [self._table(place, *table) for table in made.more]
        bias = self._table(place, "bias", "int32_t", made.bias)
        count = parts(layer)
        arguments = [
            str(count),
            str(made.length),
            *tables,
            bias,
            rows.top,
            rows.bottom,
            room,
        ]
        grid = self._grid(place, layer.window, layer.groups)
        return f"    {name}{'_wide' if wide else ''}(&{grid}, {source}, {', '.join(arguments)}, {to});\n"

    def _depthwise(self, place: int, layer: Conv, source: str, to: str, rows: Rows, room: str) -> str:
        one, output, zero = self.whole[place], self.types[place], self.whole[layer.inputs[0]].numbers.zero
        weight, bias = one.constants["weight"][..., 0], one.constants["bias"]
        self._need_wide()
        self._need("planes", kernel("i8/planes.c"))
        self._need("wide plane", kernel("i8/wide_plane.c", columns=PLANE))
        ending = self._finish(place, output, zeros=False)
        name = f"sr_depthwise_{ending}"
        self._need(name, kernel("i8/depthwise.c", name=name, output=output, kind=output[:-2], ending=ending))
        packed, less = (planes(weight), (zero + 128) * weight.sum((1, 2))) if is_wide(one) else (None, None)
        tables = [
            self._table(place, "weights", "int8_t", weight.transpose(1, 2, 0), packed),
            *self._scale(place, one.constants["multiplier"]),
            self._table(place, "bias", "int32_t", bias, None if less is None else bias - less),
        ]
        name += "" if packed is None else "_wide"
        grid = self._grid(place, layer.window, layer.groups)
        return f"    {name}(&{grid}, {source}, {', '.join(tables)}, {rows.top}, {rows.bottom}, {room}, {to});\n"

    def _finish(self, place: int, output: str, zeros: bool) -> str:
        """What the name of the function ends with that brings a layer's sums to its results."""
        ending, text = finish(output, zeros, self.whole[place].constants["shift"])
        self._need(f"finish {ending}", text)
        return ending

    def _binary(self, place: int, layer: Binary, sources: list[str], to: str, count: int) -> str:
        one = self.whole[place]
        c, zeros = one.constants, [self.whole[source].numbers.zero for source in layer.inputs]
        sizes = f"{count}, {min(self.layers[layer.inputs[1]].size, count)}"
        numbers = [*zeros, *([c["multiplier"]] if "multiplier" in c else c["factors"]), c["shift"]]
        numbers += [one.numbers.zero, c["low"], c["high"]]
        name, file = ("sr_multiply", "product") if "multiplier" in c else ("sr_weigh", "sum")
        self._need_wide()
        self._need(name, kernel(f"i8/{file}.c"))
        return f"    {name}({sources[0]}, {sources[1]}, {sizes}, {', '.join(map(_number, numbers))}, {to});\n"

    def _concat(self, place: int, layer: Concat, sources: list[str], to: str) -> str:
        name = f"sr_join_{self.types[place][:-2]}"
        self._need(name, kernel("join.c", name=name, type=self.types[place]))
        (height, width, channels), text, first = layer.shape, "", 0
        for source, pointer in zip(layer.inputs, sources, strict=True):
            count = self.layers[source].shape[2]
            text += f"    {name}({pointer}, {height * width}, {count}, {channels}, {to} + {first});\n"
            first += count
        return text

    def _gather(self, place: int, layer: Gather, x: str, to: str) -> str:
        source, kind = self.layers[layer.inputs[0]], self.types[place]
        zero = _number(self.whole[place].numbers.zero)
        if layer.is_plain(source):
            return "" if x == to else f"    memmove({to}, {x}, {layer.size} * sizeof *({to}));\n"
        if (cut := cut_of(layer, source.shape)) is not None:
            name = f"sr_cut_{kind[:-2]}"
            self._need(name, kernel("cut.c", name=name, type=kind))
            return f"    {name}({x}, {', '.join(map(str, (*source.shape, *layer.shape, *cut)))}, {zero}, {to});\n"
        name = f"sr_gather_{kind[:-2]}"
        self._need(name, kernel("gather.c", name=name, type=kind))
        return f"    {name}({x}, {layer.size}, {self._table(place, 'order', 'int32_t', layer.index)}, {zero}, {to});\n"


def _is_mex_pool(layer: Layer) -> bool:
    return isinstance(layer, Pool) and layer.kind == "mex"


def _number(value: Any) -> str:
    return str(int(value))
