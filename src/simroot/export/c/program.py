"""What a network's C text is put together from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simroot.export.c.layers import Layer
from simroot.export.c.steps import Schedule
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
        numbers: the float32 constants one behind the other, where they are no tables but are to be brought to
            ``PREFIX_numbers`` before the network runs; None where they are tables.
    """

    prefix: str
    prelude: list[str] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    flash: dict[int, int] = field(default_factory=dict)
    numbers: list[NDArray[np.float32]] | None = None
    _numbers: dict[tuple[str, bytes, bytes], str] = field(default_factory=dict)

    def table(
        self, place: int, what: str, kind: str, values: NDArray[Any], behind: str = "", wide: NDArray[Any] | None = None
    ) -> str:
        """Add constants of a layer, once if they are the same as others, and give their name.

        Where eight filters are computed side by side others may stand in their place.
        """
        key = (kind + behind, values.tobytes(), b"" if wide is None else wide.tobytes())
        if key not in self._numbers and kind == "float" and self.numbers is not None:
            self._numbers[key] = f"({self.prefix}_numbers + {sum(one.size for one in self.numbers)})"
            self.numbers.append(values.reshape(-1))
        elif key not in self._numbers:
            name = self._numbers[key] = f"{self.prefix}_{what}_{place}"
            text = table(kind, name, values, behind)
            if wide is not None:
                text = f"#ifdef SR_WIDE\n{table(kind, name, wide)}#else\n{text}#endif\n"
            self.tables.append(text)
            self.flash[place] = self.flash.get(place, 0) + values.size * _BYTES[kind]
        return self._numbers[key]


class Rows(NamedTuple):
    """Rows of a layer from ``top`` to before ``bottom``, as C, and their number."""

    top: str
    bottom: str
    number: int

    @classmethod
    def whole(cls, layer: Layer) -> Rows:
        """All of them."""
        return cls("0", str(layer.shape[0]), layer.shape[0])


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

    def call(self, place: int, sources: list[str], to: str, room: str, rows: Rows) -> str:
        """A call that computes some rows of a layer, or all."""

    def address(self, offset: int, place: int) -> str:
        """A pointer into the arena, to a layer's result."""

    def room(self, offset: int) -> str:
        """A pointer into the arena, to what a layer has for itself."""
