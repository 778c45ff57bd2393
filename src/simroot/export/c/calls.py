"""The calls of a network, one step after the other."""

from __future__ import annotations

from simroot.export.c.layers import Layer
from simroot.export.c.program import Arithmetic, Rows
from simroot.export.c.rowwise import Chain
from simroot.export.c.steps import Step
from simroot.export.c.text import kernel


def write_calls(arithmetic: Arithmetic) -> None:
    """Fill in the calls of all steps."""
    layers, schedule = arithmetic.layers, arithmetic.schedule

    def pointer(place: int) -> str:
        if place == 0:
            return "input"
        return "output" if place == len(layers) - 1 else arithmetic.address(schedule.offsets[place], place)

    def room(place: int) -> str:
        offset = schedule.rooms.get(place)
        return "NULL" if offset is None else arithmetic.room(offset)

    for step in schedule.steps:
        if len(step.chain) > 1:
            arithmetic.program.kernels.setdefault("forget", kernel("forget.c"))
            text = Chain(arithmetic, step.chain, pointer, room).text()
        else:
            layer = layers[step.result]
            sources = [pointer(source) for source in layer.inputs]
            text = arithmetic.call(step.result, sources, pointer(step.result), room(step.result), Rows.whole(layer))
        if text:
            arithmetic.program.calls.append(f"    /* {_title(layers, step)} */\n{text}")


def _title(layers: list[Layer], step: Step) -> str:
    names = [layers[place].name or type(layers[place]).__name__ for place in step.chain]
    height, width, channels = layers[step.result].shape
    plain = ", ".join(names).replace("*/", "")
    return f"{plain}: {height} x {width} x {channels}"
