"""C for a chain of layers: loops over rows, each of which makes the rows that it reads just before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simroot.export.c.chains import reach, windowed
from simroot.export.c.program import Arithmetic, Rows


@dataclass(frozen=True)
class Chain:
    """A step of several layers.

    Attributes:
        arithmetic: of the network.
        places: of the layers.
        pointer: C of where a layer's numbers are.
        room: C of what a layer has for itself.
    """

    arithmetic: Arithmetic
    places: tuple[int, ...]
    pointer: Callable[[int], str]
    room: Callable[[int], str]

    def text(self) -> str:
        """The statements."""
        between = range(len(self.places) - 1)
        counters = "".join(f", begin{depth} = 0, end{depth} = 0" for depth in between)
        last = len(self.places) - 1
        height = self.arithmetic.layers[self.places[-1]].shape[0]
        return (
            f"    {{\n        int row{counters};\n"
            f"        for (row = 0; row < {height}; ++row) {{\n"
            f"{self._row(last, 'row', f'{self.pointer(self.places[-1])} + row * {self._length(last)}', ' ' * 12)}"
            "        }\n    }\n"
        )

    def _length(self, depth: int) -> int:
        _, width, channels = self.arithmetic.layers[self.places[depth]].shape
        return width * channels

    def _row(self, depth: int, row: str, to: str, indent: str) -> str:
        """Statements that make one row of a layer, and before it those that it reads and that are not there yet."""
        if depth == 0:
            source = self.pointer(self.arithmetic.layers[self.places[0]].inputs[0])
            return self._call(0, [source], to, Rows(row, f"{row} + 1", 1), indent)
        before, length = depth - 1, self._length(depth - 1)
        place, layer = self.places[before], self.arithmetic.layers[self.places[depth]]
        height, rows, (many, step, padding) = self.arithmetic.layers[place].shape[0], self.pointer(place), reach(layer)
        start = row if (step, padding) == (1, 0) else f"{row} * {step} - {padding}"
        lines = [
            f"const int start{before} = {start};",
            f"const int first{before} = start{before} > 0 ? start{before} : 0;",
            f"const int last{before} = start{before} + {many} < {height} ? start{before} + {many} : {height};",
            f"sr_forget({rows}, (size_t){length} * sizeof *({rows}), first{before}, &begin{before}, &end{before});",
            f"for (; end{before} < last{before}; ++end{before}) {{",
        ]
        text = "".join(f"{indent}{line}\n" for line in lines)
        text += self._row(
            before, f"end{before}", f"{rows} + (end{before} - begin{before}) * {length}", indent + " " * 4
        )
        text += f"{indent}}}\n"
        if windowed(layer) is not None:
            text += (
                f"{indent}sr_grid window = {self._grid(depth)};\n"
                f"{indent}window.height = (sr_size)(last{before} - first{before});\n"
                f"{indent}window.pad_y = (sr_size)(first{before} - start{before});\n"
            )
        sources = [rows if source == place else f"{self.pointer(source)} + {row} * {length}" for source in layer.inputs]
        return text + self._call(depth, sources, to, Rows("0", "1", 1), indent)

    def _grid(self, depth: int) -> str:
        return f"{self.arithmetic.program.prefix}_grid_{self.places[depth]}"

    def _call(self, depth: int, sources: list[str], to: str, rows: Rows, indent: str) -> str:
        text = self.arithmetic.call(self.places[depth], sources, to, self.room(self.places[depth]), rows)
        if depth > 0:
            text = text.replace(f"&{self._grid(depth)},", "&window,")
        return f"{indent}{text.lstrip()}"
