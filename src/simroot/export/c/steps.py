"""The order of work: a step for each layer, or for a layer and the pooling behind it, a few rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from simroot.export.c.layers import Affine, Binary, Conv, Gather, Image, Layer, Mex, Pool, Unary, readers
from simroot.export.c.planner import Buffer, Plan, plan


@dataclass(frozen=True)
class Step:
    """One call, or one loop over rows.

    Attributes:
        layer: its place in the list.
        pool: the place of the pooling that takes its rows as they are made, or None.
    """

    layer: int
    pool: int | None = None

    @property
    def result(self) -> int:
        """The layer whose output it leaves."""
        return self.layer if self.pool is None else self.pool


@dataclass(frozen=True)
class Schedule:
    """Steps in order, and the places in bytes of their results and of the room that they work in.

    Attributes:
        steps: the calls.
        offsets: of each layer's result; a layer without one is read by its own pooling alone, or is the image.
        sizes: bytes of each layer's result.
        scratch: of the room that a step needs for itself.
        rooms: bytes of it.
        arena: bytes of all.
        peak: the most bytes that are needed at one time.
    """

    steps: tuple[Step, ...]
    offsets: dict[int, int]
    sizes: dict[int, int]
    scratch: dict[int, int]
    rooms: dict[int, int]
    arena: int
    peak: int


def schedule(layers: Sequence[Layer], sizes: Sequence[int]) -> Schedule:
    """The steps of least memory.

    Args:
        layers: the network.
        sizes: bytes of one number of each layer's output.
    """
    steps = [Step(place) for place, layer in enumerate(layers) if not isinstance(layer, Image)]
    best = _planned(layers, sizes, steps)
    while True:
        tried = [_planned(layers, sizes, _joined(steps, place)) for place in _joinable(layers, steps)]
        better = min(tried, key=lambda one: one.arena, default=best)
        if better.arena >= best.arena:
            return best
        best, steps = better, list(better.steps)


def _joinable(layers: Sequence[Layer], steps: Sequence[Step]) -> list[int]:
    """Steps whose layer only a pooling reads, which is the next step."""
    found = []
    readings = readers(list(layers))
    for place, (step, after) in enumerate(itertools.pairwise(steps)):
        layer, pool = layers[step.layer], layers[after.layer]
        if isinstance(layer, Conv) and isinstance(pool, Pool) and step.pool is None and after.pool is None:
            plain = pool.window.padding[0] == 0 and pool.window.dilation == (1, 1)
            if plain and pool.shape[0] > 1 and readings[step.layer] == [after.layer]:
                found.append(place)
    return found


def _joined(steps: Sequence[Step], place: int) -> list[Step]:
    return [*steps[:place], Step(steps[place].layer, steps[place + 1].layer), *steps[place + 2 :]]


def _planned(layers: Sequence[Layer], sizes: Sequence[int], steps: Sequence[Step]) -> Schedule:
    when = {step.result: time for time, step in enumerate(steps)}
    last = dict.fromkeys(when, 0)
    for time, step in enumerate(steps):
        for source in layers[step.layer].inputs:
            last[source] = time
    buffers: list[Buffer] = []
    number: dict[int, int] = {}
    scratch: dict[int, int] = {}
    for time, step in enumerate(steps):
        place = step.result
        source = layers[step.layer].inputs[0]
        if place != len(layers) - 1:  # the last one's numbers go to the caller
            over = number.get(source) if _in_place(layers, step, sizes) and last.get(source) == time else None
            number[place] = len(buffers)
            buffers.append(Buffer(layers[place].size * sizes[place], time, last[place], over))
        if room := _room(layers[step.layer], step, layers, sizes):
            scratch[place] = len(buffers)
            buffers.append(Buffer(room, time, time))
    made: Plan = plan(buffers)
    return Schedule(
        steps=tuple(steps),
        offsets={place: made.offsets[index] for place, index in number.items()},
        sizes={place: buffers[index].size for place, index in number.items()},
        rooms={place: buffers[index].size for place, index in scratch.items()},
        scratch={place: made.offsets[index] for place, index in scratch.items()},
        arena=made.arena,
        peak=made.bound,
    )


def _in_place(layers: Sequence[Layer], step: Step, sizes: Sequence[int]) -> bool:
    """Whether a step may write over what it reads: everything is read before its place is written to."""
    layer = layers[step.layer]
    source = layer.inputs[0]
    if step.pool is not None or sizes[source] != sizes[step.layer] or isinstance(layers[source], Image):
        return False
    if isinstance(layer, Pool):
        return layer.window.padding == (0, 0)
    if isinstance(layer, Gather):
        return layer.is_plain(layers[source])
    return isinstance(layer, Unary | Affine | Binary) and len(set(layer.inputs)) == len(layer.inputs)


def _room(layer: Layer, step: Step, layers: Sequence[Layer], sizes: Sequence[int]) -> int:
    """Bytes that a step works in: the exponentials of a MEX unit, the rows of a convolution before a pooling."""
    if isinstance(layer, Mex):
        return 4 * layers[layer.inputs[0]].shape[2]
    if step.pool is not None:
        pool = layers[step.pool]
        assert isinstance(pool, Pool)
        return pool.window.kernel[0] * layer.shape[1] * layer.shape[2] * sizes[step.layer]
    return 0
