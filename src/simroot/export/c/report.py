"""What a network needs of a device, layer by layer: flash, memory, multiply-accumulates."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from simroot.export.c.calls import write_calls
from simroot.export.c.capture import capture, normalised
from simroot.export.c.emit import Examples, files
from simroot.export.c.floats import FloatArithmetic
from simroot.export.c.integer_text import IntegerArithmetic
from simroot.export.c.layers import macs
from simroot.export.c.program import Arithmetic
from simroot.export.c.quantise import quantise
from simroot.export.c.simplify import simplify
from simroot.export.c.stack import ALLOWANCE, stack_bytes
from simroot.export.description import Description

Precision = Literal["float32", "int8"]

# Random ones, for the ranges of a network whose weights mean nothing.
_IMAGES = 2


@dataclass(frozen=True)
class LayerMemory:
    """One step.

    Attributes:
        name: of the layer, or of several whose rows are made as the next needs them.
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
        pixels: bytes of the image that it reads, which the caller holds.
        ram: the arena, the image, and an allowance for the stack.
        macs: multiply-accumulates of an image.
        layers: the steps in order.
        stack: bytes, on a Cortex-M4; None if that was not asked for, or its compiler is not there.
    """

    precision: str
    flash: int
    peak: int
    arena: int
    pixels: int
    ram: int
    macs: int
    layers: tuple[LayerMemory, ...]
    stack: int | None = None


def device_memory(
    model: nn.Module, input_size: Sequence[int], precision: Precision = "float32", *, with_stack: bool = False
) -> Memory:
    """What a network needs as C; with trained weights or without.

    Args:
        model: the deployed network.
        input_size: shape of one image, (C, H, W).
        precision: ``"int8"`` for whole numbers throughout, with an image of pixels.
        with_stack: whether to compile the text for its stack, if the compiler is there.

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
    if not with_stack:
        write_calls(arithmetic)
        return memory(arithmetic, precision)
    image, last = arithmetic.layers[0], arithmetic.layers[-1]
    examples = Examples(np.zeros((1, *image.shape)), np.zeros((1, last.size), dtype=np.float32), 0.0)
    with tempfile.TemporaryDirectory(prefix="simroot-stack-") as folder:
        for name, text in files(arithmetic, Description(tuple(input_size)), examples).items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return memory(arithmetic, precision, stack_bytes(Path(folder) / "network.c", "network"))


def memory(arithmetic: Arithmetic, precision: str, stack: int | None = None) -> Memory:
    """What a network needs whose calls have been written."""
    layers, schedule, program = arithmetic.layers, arithmetic.schedule, arithmetic.program
    rows = []
    for step in schedule.steps:
        parts = [layers[place] for place in step.chain]
        touched = {source for part in parts for source in part.inputs if source} | {step.result}
        rows.append(
            LayerMemory(
                name=" + ".join(part.name or type(part).__name__ for part in parts),
                kind=" + ".join(type(part).__name__ for part in parts),
                shape=parts[-1].shape,
                flash=sum(program.flash.get(place, 0) for place in step.chain),
                activations=sum(schedule.sizes.get(place, 0) for place in touched)
                + sum(schedule.spare.get(place, 0) for place in step.chain),
                macs=sum(macs(part) for part in parts),
            )
        )
    return Memory(
        precision=precision,
        flash=sum(program.flash.values()),
        peak=schedule.peak,
        arena=schedule.arena,
        pixels=layers[0].size,
        ram=schedule.arena + layers[0].size + ALLOWANCE,
        macs=sum(row.macs for row in rows),
        layers=tuple(rows),
        stack=stack,
    )
