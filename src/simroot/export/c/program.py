"""What a network's C text is put together from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from simroot.export.c.layers import Layer, Pool
from simroot.export.c.steps import Schedule, Step
from simroot.export.c.text import table

_BYTES = {"float": 4, "int32_t": 4, "uint32_t": 4, "int16_t": 2, "uint16_t": 2, "int8_t": 1, "uint8_t": 1}


@dataclass
class Program:
    """Kernels, tables and calls of one network, while it is written.

    Attributes:
        prefix: what its tables are called after.
        prelude: tables that kernels read.
        kernels: texts by name, each once, in the order in which they are needed.
        tables: constants, as text.
        calls: one statement after the other.
        flash: bytes of the tables by the layer that they belong to.
    """

    prefix: str
    prelude: list[str] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    flash: dict[int, int] = field(default_factory=dict)
    _numbers: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def table(self, place: int, what: str, kind: str, values: NDArray[Any]) -> str:
        """Add constants of a layer, once if they are the same as others, and give their name."""
        key = (kind, values.tobytes())
        if key not in self._numbers:
            name = self._numbers[key] = f"{self.prefix}_{what}_{place}"
            self.tables.append(table(kind, name, values))
            self.flash[place] = self.flash.get(place, 0) + values.size * _BYTES[kind]
        return self._numbers[key]


class Arithmetic(Protocol):
    """How a network computes: float32 or integers."""

    layers: list[Layer]
    program: Program
    schedule: Schedule
    functions: str
    limits: str

    @property
    def input_type(self) -> str:
        """C's type of the network's input."""

    @property
    def arena_type(self) -> str:
        """C's type that the arena is made of."""

    @property
    def output_type(self) -> str:
        """C's type of the last layer's numbers."""

    def finish(self, name: str) -> str:
        """Statements of NAME_classify that run the network and leave its scores."""

    def rows(self, place: int, source: str, to: str, top: str, bottom: str) -> str:
        """A call that computes some rows of a layer that works row by row."""

    def call(self, place: int, sources: list[str], to: str, scratch: str) -> str:
        """A call that computes a layer."""

    def address(self, offset: int, place: int) -> str:
        """A pointer into the arena, to a layer's result."""


def write_calls(arithmetic: Arithmetic) -> None:
    """Fill in the calls of all steps."""
    layers, schedule = arithmetic.layers, arithmetic.schedule

    def pointer(place: int) -> str:
        if place == 0:
            return "input"
        return "output" if place == len(layers) - 1 else arithmetic.address(schedule.offsets[place], place)

    for step in schedule.steps:
        layer, place = layers[step.layer], step.result
        room = schedule.scratch.get(place)
        scratch = "NULL" if room is None else arithmetic.address(room, step.layer)
        sources = [pointer(source) for source in layer.inputs]
        title = f"    /* {_title(layers, step)} */\n"
        if step.pool is None:
            text = arithmetic.call(place, sources, pointer(place), scratch)
        else:
            text = _joined(arithmetic, step, sources[0], scratch, pointer(place))
        if text:
            arithmetic.program.calls.append(title + text)


def _title(layers: list[Layer], step: Step) -> str:
    names = [
        layers[place].name or type(layers[place]).__name__ for place in (step.layer, step.pool) if place is not None
    ]
    height, width, channels = layers[step.result].shape
    plain = " and ".join(names).replace("*/", "")
    return f"{plain}: {height} x {width} x {channels}"


def _joined(arithmetic: Arithmetic, step: Step, source: str, scratch: str, to: str) -> str:
    """A loop over the rows of a pooling, each of whose windows is computed just before."""
    assert step.pool is not None
    layer, pool = arithmetic.layers[step.layer], arithmetic.layers[step.pool]
    assert isinstance(pool, Pool)
    height, width, channels = layer.shape
    size, step_y, length = pool.window.kernel[0], pool.window.stride[0], width * channels
    rows = arithmetic.rows(step.layer, source, f"{scratch} + kept * {length}", "first + kept", "last")
    pooling = arithmetic.rows(step.pool, scratch, f"{to} + row * {pool.shape[1] * channels}", "0", "1")
    return (
        f"    for (row = 0, kept = 0; row < {pool.shape[0]}; ++row) {{\n"
        f"        const int first = row * {step_y};\n"
        f"        const int last = first + {size} < {height} ? first + {size} : {height};\n"
        f"    {rows}"
        f"        window = {arithmetic.program.prefix}_grid_{step.pool};\n"
        f"        window.height = last - first;\n"
        f"    {pooling.replace(f'&{arithmetic.program.prefix}_grid_{step.pool}', '&window')}"
        f"        kept = last - first - {step_y} > 0 ? last - first - {step_y} : 0;\n"
        f"        memmove({scratch}, {scratch} + {step_y * length}, (size_t)(kept * {length}) * sizeof *({scratch}));\n"
        f"    }}\n"
    )
