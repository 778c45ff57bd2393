"""The network in float32: tables and calls."""

from __future__ import annotations

import numpy as np

from simroot.errors import ConfigError
from simroot.export.c.float_filters import (
    PRODUCT,
    WIDEST,
    blocked,
    depthwise_kernel,
    filter_kernel,
    power,
    used_widths,
    vectors,
)
from simroot.export.c.layers import (
    Affine,
    Binary,
    Concat,
    Conv,
    Floats,
    Gather,
    Image,
    Layer,
    Lp,
    Mex,
    Pool,
    Shape,
    Unary,
    Window,
)
from simroot.export.c.moves import cut_of
from simroot.export.c.pools import EXTREMES, pool_kernel
from simroot.export.c.program import Program, Rows
from simroot.export.c.steps import Schedule, schedule
from simroot.export.c.text import kernel, real

_SMALLEST_BETA = 1e-30

_UNARY = {
    "relu": "value > 0.0F ? value : 0.0F",
    "relu6": "sr_clamp(value, 0.0F, 6.0F)",
    "hardswish": "value * sr_clamp(value + 3.0F, 0.0F, 6.0F) / 6.0F",
    "hardsigmoid": "sr_clamp(value + 3.0F, 0.0F, 6.0F) / 6.0F",
    "sigmoid": "1.0F / (1.0F + sr_exp(-value))",
    "silu": "value / (1.0F + sr_exp(-value))",
    "tanh": "1.0F - 2.0F / (1.0F + sr_exp(2.0F * value))",
    "leaky_relu": "value > 0.0F ? value : value * a",
    "clamp": "sr_clamp(value, a, b)",
}
_POOLS = {
    **EXTREMES,
    "average": ("0.0F", "value[c] + from[c]", "value[c] / (float)(divisor ? divisor : count)"),
}

_LARGEST_ROWS = 8192  # numbers of a row of results' pixels that the stack has room for


class FloatArithmetic:
    """See ``simroot.export.c.program.Arithmetic``."""

    def __init__(self, layers: list[Layer], prefix: str, by_rows: bool = True) -> None:
        self.layers, self.program = layers, Program(prefix)
        self.schedule: Schedule = schedule(layers, [4] * len(layers), _room, by_rows)
        self.pixels = isinstance(layers[0], Image) and layers[0].pixels
        self._widths = used_widths(layers)

    arena_type = output_type = "float"
    functions, limits = "f32/functions.c", "float low, high;"

    @property
    def input_type(self) -> str:
        return "uint8_t" if self.pixels else "float"

    def finish(self, name: str) -> str:
        return f"    {name}_run({'pixels' if self.pixels else 'input'}, (float *)arena, scores);"

    def address(self, offset: int, place: int) -> str:
        return f"arena + {offset // 4}"

    def room(self, offset: int) -> str:
        return f"arena + {offset // 4}"

    def _pool(self, place: int, layer: Pool, source: str, to: str, rows: Rows) -> str:
        name = self._pool_kernel(layer)
        extra = {"average": f", {layer.divisor}"}.get(layer.kind, "")
        if layer.kind == "mex":
            sign = np.where(layer.beta < 0, -1.0, 1.0)  # a beta of zero among others is that of no effect
            beta = np.broadcast_to(sign * np.maximum(np.abs(layer.beta), _SMALLEST_BETA), (layer.shape[2],))
            extra = f", {self._floats(place, 'beta', beta)}"
        return f"    {name}(&{self._grid(place, layer.window)}, {source}{extra}, {rows.top}, {rows.bottom}, {to});\n"

    def call(self, place: int, sources: list[str], to: str, room: str, rows: Rows) -> str:
        layer, x = self.layers[place], sources[0]
        pixels, channels = rows.number * layer.shape[1], layer.shape[2]
        if isinstance(layer, Conv | Lp):
            return self._filters(place, layer, x, to, rows)
        if isinstance(layer, Pool):
            return self._pool(place, layer, x, to, rows)
        if isinstance(layer, Mex):
            return self._mex(place, layer, x, to, room, pixels)
        if isinstance(layer, Affine):
            kind = "u8" if self.pixels and layer.inputs == (0,) else "f32"
            name = f"sr_affine_{kind}"
            text = kernel("f32/affine.c", name=name, input="uint8_t" if kind == "u8" else "float")
            self.program.kernels.setdefault(name, text)
            scale, shift = (np.broadcast_to(one, (channels,)) for one in (layer.scale, layer.shift))
            tables = f"{self._floats(place, 'scale', scale)}, {self._floats(place, 'shift', shift)}"
            return f"    {name}({x}, {pixels}, {channels}, {tables}, {_limits(layer.clamp)}, {to});\n"
        if isinstance(layer, Unary):
            return self._unary(layer, x, to, pixels * channels)
        if isinstance(layer, Binary):
            sign = {"add": "+", "subtract": "-", "multiply": "*"}[layer.kind]
            self.program.kernels.setdefault(layer.kind, kernel("f32/binary.c", kind=layer.kind, sign=sign))
            count = pixels * channels
            period = min(self.layers[layer.inputs[1]].size, count)
            return f"    sr_{layer.kind}({x}, {sources[1]}, {count}, {period}, {_limits(layer.clamp)}, {to});\n"
        if isinstance(layer, Concat):
            return self._concat(layer, sources, to)
        assert isinstance(layer, Gather)
        return self._gather(place, layer, x, to)

    def _floats(self, place: int, what: str, values: Floats, behind: str = "") -> str:
        return self.program.table(place, what, "float", np.ascontiguousarray(values, dtype=np.float32), behind)

    def _beside(self, place: int, what: str, values: Floats) -> str:
        """Numbers of filters, several of which are read at a time, also where there are fewer."""
        layer = self.layers[place]
        groups = 1 if isinstance(layer, Conv) and layer.depthwise else getattr(layer, "groups", 1)
        fewer = layer.shape[2] // groups % WIDEST
        return self._floats(place, what, values, "SR_BEHIND" if fewer else "")

    def _grid(self, place: int, window: Window, groups: int = 1, clamp: tuple[float, float] = (-np.inf, np.inf)) -> str:
        layer, name = self.layers[place], f"{self.program.prefix}_grid_{place}"
        numbers = (
            *self.layers[layer.inputs[0]].shape,
            *layer.shape,
            *window.kernel,
            *window.stride,
            *window.padding,
            *window.dilation,
            groups,
        )
        text = f"static const sr_grid {name} = {{{', '.join(map(str, numbers))}, {_limits(clamp)}}};\n"
        if text not in self.program.tables:
            self.program.tables.append(text)
        return name

    def _filters(self, place: int, layer: Conv | Lp, source: str, to: str, rows: Rows) -> str:
        top, bottom, _ = rows
        clamp, groups = layer.clamp, layer.groups
        grid, bias = self._grid(place, layer.window, groups, clamp), self._beside(place, "bias", layer.bias)
        if isinstance(layer, Conv) and layer.depthwise and layer.centre is None:
            self._need_vectors()
            self.program.kernels.setdefault("sr_depthwise", depthwise_kernel("sr_depthwise", self._widths))
            weights = self._beside(place, "weights", layer.weight[..., 0].transpose(1, 2, 0))
            return f"    sr_depthwise(&{grid}, {source}, {weights}, {bias}, {top}, {bottom}, {to});\n"
        if isinstance(layer, Conv):
            weights, second = self._beside(place, "weights", blocked(layer.weight, groups)), "NULL"
            name = "sr_conv" if layer.centre is None else "sr_conv_pixels"
            if layer.centre is not None:
                centre = np.broadcast_to(layer.centre, (layer.window.kernel[1], layer.weight.shape[3]))
                second = self._floats(place, "centre", centre)
            if source == "input" and self.pixels and layer.centre is None:
                raise ConfigError(f"{layer.name} reads pixels that are not normalised, which has no C form")
        else:
            weights = self._beside(place, "templates", blocked(layer.templates, groups))
            second = self._beside(place, "factors", blocked(layer.factors, groups))
            name = f"sr_lp_{real(layer.order)[:-1].replace('.', '_').replace('-', 'm')}"
        self._need_filters(name, layer)
        return f"    {name}(&{grid}, {source}, {weights}, {second}, {bias}, {top}, {bottom}, {to});\n"

    def _need_filters(self, name: str, layer: Conv | Lp) -> None:
        if name in self.program.kernels:
            return
        fields = {"term": PRODUCT, "sign": "+", "what": "products with the filters", "more": "const float *second, "}
        fields |= {"parameters": "", "second": "", "passed": "", "unused": "    (void)second;"}
        if isinstance(layer, Lp):
            fields |= {"parameters": ", const float *u", "second": "\n            const float *f = u + first;"}
            fields |= {"next": "\n                f += @FILTERS@;", "passed": "second + offset, ", "unused": ""}
            fields |= {"term": power(layer.order), "sign": "-"}
            fields["what"] = f"weights times differences to the power {layer.order:g}"
        elif layer.centre is not None:
            fields |= {"input": "uint8_t", "parameters": ", const float *centre", "unused": ""}
            fields |= {"value": "(float)from[i * next + k] - centre[k]"}
            fields |= {"passed": f"second + first_x * {layer.weight.shape[3]}, "}
            fields["what"] = "products with the filters, of pixels less their centre"
        self._need_vectors()
        inside = name != "sr_conv_pixels" and self._inside(layer)  # its own loops see the grid as it is
        text = filter_kernel(name, self._widths, inside, **fields)
        self.program.kernels[name] = self._rows_of_pixels(text) if name == "sr_conv_pixels" else text

    def _inside(self, layer: Conv | Lp) -> bool:
        """Whether no layer of one kernel sees what is outside of the grid, and all have four columns."""
        alike = [one for one in self.layers if type(one) is type(layer) and not getattr(one, "depthwise", False)]
        grids = [self.layers[one.inputs[0]].shape for one in alike]
        return all(
            one.shape[1] >= 4 and (getattr(one, "centre", None) is not None or _within(one, grid))
            for one, grid in zip(alike, grids, strict=True)
        )

    def _rows_of_pixels(self, loops: str) -> str:
        """A function of pixels that brings them to float32 for that of other layers, where such are and rows fit."""
        convolutions = [one for one in self.layers if isinstance(one, Conv)]
        plain = next((one for one in convolutions if one.centre is None and not one.depthwise), None)
        room = max(_pixels_of_a_row(one, self.layers[0]) for one in convolutions if one.centre is not None)
        if plain is None or room > _LARGEST_ROWS:
            return loops
        self._need_filters("sr_conv", plain)
        return kernel("f32/rows_of_pixels.c", room=room, period=8 * self.layers[0].shape[2], loops=loops)

    def _need_vectors(self) -> None:
        self.program.kernels.setdefault("vectors", vectors())

    def _mex(self, place: int, layer: Mex, x: str, to: str, room: str, pixels: int) -> str:
        self.program.kernels.setdefault("mex", kernel("f32/mex.c"))
        common = layer.offsets.mean(0)
        offsets = layer.beta * (layer.offsets - common)
        peaks = offsets.max(1, keepdims=True)
        mixing = np.exp(offsets - peaks) / offsets.shape[1]
        tables = ", ".join(
            self._floats(place, what, values)
            for what, values in (("common", common), ("mixing", mixing), ("peaks", peaks / layer.beta))
        )
        units, channels = layer.offsets.shape
        return f"    sr_mex({x}, {pixels}, {channels}, {units}, {real(layer.beta)}, {tables}, {room}, {to});\n"

    def _pool_kernel(self, layer: Pool) -> str:
        name = f"sr_pool_{layer.kind}"
        if name in self.program.kernels:
            return name
        if layer.kind == "mex":
            self.program.kernels[name] = kernel("f32/pool_mex.c")
            return name
        start, step, result = _POOLS[layer.kind]
        more = ("int divisor", "divisor") if layer.kind == "average" else ("", "")
        fields = {"what": layer.kind, "type": "float", "sum": "float", "start": start, "step": step, "result": result}
        self.program.kernels[name] = pool_kernel(name, fields, *more)
        return name

    def _unary(self, layer: Unary, x: str, to: str, count: int) -> str:
        parameters = "".join(f", float {name}" for name in "ab"[: len(layer.values)])
        text = kernel("f32/unary.c", kind=layer.kind, parameters=parameters, result=_UNARY[layer.kind])
        self.program.kernels.setdefault(f"unary {layer.kind}", text)
        values = "".join(f", {real(value)}" for value in layer.values)
        return f"    sr_{layer.kind}({x}, {count}{values}, {to});\n"

    def _concat(self, layer: Concat, sources: list[str], to: str) -> str:
        self.program.kernels.setdefault("join", kernel("join.c", name="sr_join", type="float"))
        height, width, channels = layer.shape
        text, first = "", 0
        for source, pointer in zip(layer.inputs, sources, strict=True):
            count = self.layers[source].shape[2]
            text += f"    sr_join({pointer}, {height * width}, {count}, {channels}, {to} + {first});\n"
            first += count
        return text

    def _gather(self, place: int, layer: Gather, x: str, to: str) -> str:
        source = self.layers[layer.inputs[0]]
        if layer.is_plain(source):
            count = f"(size_t){layer.size} * sizeof *({to})"
            return "" if x == to else f"    memmove({to}, {x}, {count});\n"
        if isinstance(source, Image) and source.pixels:
            raise ConfigError(f"{layer.name} reads pixels that are not normalised, which has no C form")
        if (cut := cut_of(layer, source.shape)) is not None:
            self.program.kernels.setdefault("cut", kernel("cut.c", name="sr_cut", type="float"))
            sizes = ", ".join(map(str, (*source.shape, *layer.shape, *cut)))
            return f"    sr_cut({x}, {sizes}, 0, {to});\n"
        self.program.kernels.setdefault("gather", kernel("gather.c", name="sr_gather", type="float"))
        order = self.program.table(place, "order", "int32_t", layer.index.astype(np.int32))
        return f"    sr_gather({x}, {layer.size}, {order}, 0, {to});\n"


def _room(layer: Layer) -> int:
    """Bytes that a layer works in: the exponentials of a MEX unit."""
    return 4 * layer.offsets.shape[1] if isinstance(layer, Mex) else 0


def _within(layer: Layer, grid: Shape) -> bool:
    """Whether all windows lie inside of the grid."""
    assert isinstance(layer, Conv | Lp)
    window = layer.window
    ends = (
        (out - 1) * step + (kernel - 1) * apart + 1
        for out, step, kernel, apart in zip(layer.shape, window.stride, window.kernel, window.dilation, strict=False)
    )
    return window.padding == (0, 0) and all(end <= size for end, size in zip(ends, grid, strict=False))


def _pixels_of_a_row(layer: Conv, image: Layer) -> int:
    """Numbers that a row of results reads."""
    down, across = layer.window.kernel
    return down * ((layer.shape[1] - 1) * layer.window.stride[1] + across) * image.shape[2]


def _limits(clamp: tuple[float, float]) -> str:
    return f"{real(clamp[0])}, {real(clamp[1])}"
