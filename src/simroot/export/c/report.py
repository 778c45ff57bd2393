"""What a network needs of a device, layer by layer: flash, memory, multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from simroot.export.c.capture import capture, normalised
from simroot.export.c.floats import FloatArithmetic
from simroot.export.c.integer_text import IntegerArithmetic
from simroot.export.c.layers import macs
from simroot.export.c.program import Arithmetic, write_calls
from simroot.export.c.quantise import quantise
from simroot.export.c.simplify import simplify
from simroot.export.description import Description

Precision = Literal["float32", "int8"]

# Random ones, for the ranges of a network whose weights mean nothing.
_IMAGES = 2


@dataclass(frozen=True)
class LayerMemory:
    """One step.

    Attributes:
        name: of the layer, with its pooling if that takes its rows as they are made.
        kind: its class.
        shape: of the result, (height, width, channels).
        flash: bytes of constants.
        activations: bytes of what it reads from the arena, of its result and of the room that it works in.
        macs: multiply-accumulates.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    flash: int
    activations: int
    macs: int


@dataclass(frozen=True)
class Memory:
    """A network on a device.

    Attributes:
        precision: ``"float32"`` or ``"int8"``.
        flash: bytes of all constants.
        peak: the most bytes of results that are needed at one time: no plan can go below.
        arena: bytes of memory that the plan takes.
        macs: multiply-accumulates of an image.
        layers: the steps in order.
    """

    precision: str
    flash: int
    peak: int
    arena: int
    macs: int
    layers: tuple[LayerMemory, ...]


def device_memory(model: nn.Module, input_size: Sequence[int], precision: Precision = "float32") -> Memory:
    """What a network needs as C; with trained weights or without.

    Args:
        model: the deployed network.
        input_size: shape of one image, (C, H, W).
        precision: ``"int8"`` for whole numbers throughout, with an image of pixels.

    Raises:
        ConfigError: if a layer has no C form.
    """
    layers = capture(model, input_size)
    arithmetic: Arithmetic
    if precision == "int8":
        halves = (0.5,) * input_size[0]  # as any: what there is room for does not depend on them
        pixels = Description(tuple(input_size), mean=halves, std=halves)
        images = torch.randint(256, (_IMAGES, *input_size), generator=torch.Generator().manual_seed(0)).byte()
        arithmetic = IntegerArithmetic(quantise(simplify(normalised(layers, pixels)), images), "network")
    else:
        arithmetic = FloatArithmetic(simplify(layers), "network")
    write_calls(arithmetic)
    return memory(arithmetic, precision)


def memory(arithmetic: Arithmetic, precision: str) -> Memory:
    """What a network needs whose calls have been written."""
    layers, schedule, program = arithmetic.layers, arithmetic.schedule, arithmetic.program
    rows = []
    for step in schedule.steps:
        parts = [layers[place] for place in (step.layer, step.pool) if place is not None]
        places = {step.layer, step.result}
        touched = {source for source in layers[step.layer].inputs if source} | {step.result}
        rows.append(
            LayerMemory(
                name=" + ".join(part.name or type(part).__name__ for part in parts),
                kind=" + ".join(type(part).__name__ for part in parts),
                shape=parts[-1].shape,
                flash=sum(program.flash.get(place, 0) for place in places),
                activations=sum(schedule.sizes[place] for place in touched if place in schedule.offsets)
                + schedule.rooms.get(step.result, 0),
                macs=sum(macs(part) for part in parts),
            )
        )
    return Memory(
        precision=precision,
        flash=sum(program.flash.values()),
        peak=schedule.peak,
        arena=schedule.arena,
        macs=sum(row.macs for row in rows),
        layers=tuple(rows),
    )
